//! The properties of CACAO's objects, as tables. What a table cannot say is checked beside it.

use super::super::vocabulary as words;

/// What an object can have.
pub(in super::super) type Table = &'static [Property];

/// One property.
pub(in super::super) struct Property {
    pub name: &'static str,
    pub form: Form,
    pub required: bool,
}

/// What a value looks like.
pub(in super::super) enum Form {
    /// Text that says something.
    Text,
    /// Text that may be empty.
    Loose,
    Bool,
    /// An integer from `.0` to `.1`.
    Whole(u64, u64),
    /// A timestamp with milliseconds and `Z`.
    Moment,
    /// Base 64 of UTF-8 text.
    Base64,
    /// An identifier that names something elsewhere, of one of these types; none: of any.
    Id(&'static [&'static str]),
    /// An identifier of a step of the workflow.
    Step,
    /// An identifier in the dictionary of this name.
    In(&'static str),
    /// One of these.
    OneOf(&'static [&'static str]),
    /// Better one of these.
    Word(&'static [&'static str]),
    /// At least one.
    List(&'static Form),
    Object(Table),
    /// Names with texts.
    Texts,
    /// Names with lists of text.
    Lists,
    /// `address` of an agent or target.
    Addresses,
    /// A dictionary of extensions.
    Extensions,
    /// A dictionary of variables; true: of the playbook.
    Variables(bool),
    /// Checked by other means.
    Elsewhere,
}

const fn may(name: &'static str, form: Form) -> Property {
    Property {
        name,
        form,
        required: false,
    }
}

const fn must(name: &'static str, form: Form) -> Property {
    Property {
        name,
        form,
        required: true,
    }
}

use Form::{
    Addresses, Base64, Bool, Elsewhere, Extensions, Id, In, List, Lists, Loose, Moment, Object, OneOf, Step,
    Text, Texts, Variables, Whole, Word,
};

const IDENTITY: Form = Id(&["identity"]);
const REFERENCES: Form = List(&Object(EXTERNAL_REFERENCE));

pub(super) const PLAYBOOK: Table = &[
    must("type", OneOf(&["playbook"])),
    must("spec_version", OneOf(&["cacao-2.0"])),
    must("id", Id(&["playbook"])),
    must("name", Text),
    may("description", Loose),
    may("playbook_types", List(&Word(words::PLAYBOOK_TYPES))),
    may("playbook_activities", List(&Word(words::ACTIVITIES))),
    may("playbook_processing_summary", Object(SUMMARY)),
    must("created_by", IDENTITY),
    must("created", Moment),
    must("modified", Moment),
    may("revoked", Bool),
    may("valid_from", Moment),
    may("valid_until", Moment),
    may("derived_from", List(&Id(&["playbook"]))),
    may("related_to", List(&Id(&[]))),
    may("priority", Whole(0, 100)),
    may("severity", Whole(0, 100)),
    may("impact", Whole(0, 100)),
    may("industry_sectors", List(&Word(words::SECTORS))),
    may("labels", List(&Text)),
    may("external_references", REFERENCES),
    may("markings", List(&In("data_marking_definitions"))),
    may("playbook_variables", Variables(true)),
    must("workflow_start", Step),
    may("workflow_exception", Step),
    must("workflow", Elsewhere),
    may("playbook_extensions", Extensions),
    may("authentication_info_definitions", Elsewhere),
    may("agent_definitions", Elsewhere),
    may("target_definitions", Elsewhere),
    may("extension_definitions", Elsewhere),
    may("data_marking_definitions", Elsewhere),
    may("signatures", List(&Object(SIGNATURE))),
];

const SUMMARY: Table = &[
    may("manual_playbook", Bool),
    may("external_playbooks", Bool),
    may("parallel_processing", Bool),
    may("if_logic", Bool),
    may("while_logic", Bool),
    may("switch_logic", Bool),
    may("temporal_logic", Bool),
    may("data_markings", Bool),
    may("digital_signatures", Bool),
    may("countersigned_signatures", Bool),
    may("extensions", Bool),
];

pub(super) const EXTERNAL_REFERENCE: Table = &[
    must("name", Text),
    may("description", Text),
    may("source", Text),
    may("url", Text),
    may("external_id", Text),
    may("reference_id", Text),
];

pub(super) const SIGNATURE: Table = &[
    must("type", OneOf(&["jss"])),
    must("id", Id(&["jss", "signature"])),
    may("created_by", IDENTITY),
    must("created", Moment),
    must("modified", Moment),
    may("revoked", Bool),
    must("signee", Text),
    may("valid_from", Moment),
    may("valid_until", Moment),
    must("related_to", Id(&["playbook"])),
    must("related_version", Moment),
    must("hash_algorithm", Text),
    must("algorithm", Word(words::ALGORITHMS)),
    may("public_key", Text),
    may("public_cert_chain", List(&Text)),
    may("cert_url", Text),
    may("thumbprint", Text),
    must("value", Text),
    // A countersignature: the same again.
    may("signature", Elsewhere),
];

/// What every step can have.
pub(super) const STEP: Table = &[
    must("type", OneOf(words::STEP_TYPES)),
    may("name", Loose),
    may("description", Loose),
    may("external_references", REFERENCES),
    may("delay", Whole(0, u64::MAX)),
    may("timeout", Whole(0, u64::MAX)),
    may("step_variables", Variables(false)),
    may("owner", IDENTITY),
    may("on_completion", Step),
    may("on_success", Step),
    may("on_failure", Step),
    may("step_extensions", Extensions),
];

/// What steps of this type have besides.
pub(super) fn step(kind: &str) -> Table {
    const ACTION: Table = &[
        must("commands", Elsewhere),
        must("agent", In("agent_definitions")),
        may("targets", List(&In("target_definitions"))),
        may("in_args", List(&Text)),
        may("out_args", List(&Text)),
    ];
    const PLAYBOOK_ACTION: Table = &[
        must("playbook_id", Id(&["playbook"])),
        may("playbook_version", Moment),
        may("in_args", List(&Text)),
        may("out_args", List(&Text)),
    ];
    const PARALLEL: Table = &[must("next_steps", List(&Step))];
    const IF: Table = &[
        must("condition", Text),
        must("on_true", Step),
        may("on_false", Step),
    ];
    const WHILE: Table = &[must("condition", Text), must("on_true", Step)];
    const SWITCH: Table = &[must("switch", Text), must("cases", Elsewhere)];
    match kind {
        "action" => ACTION,
        "playbook-action" => PLAYBOOK_ACTION,
        "parallel" => PARALLEL,
        "if-condition" => IF,
        "while-condition" => WHILE,
        "switch-condition" => SWITCH,
        _ => &[],
    }
}

/// What every command can have.
pub(super) const COMMAND: Table = &[
    must("type", Word(words::COMMAND_TYPES)),
    may("description", Loose),
    may("version", Text),
    may("playbook_activity", Word(words::ACTIVITIES)),
    may("external_references", REFERENCES),
];

/// What commands of this type have besides; none: a type that CACAO does not know.
pub(super) fn command(kind: &str) -> Option<Table> {
    const EITHER: Table = &[may("command", Text), may("command_b64", Base64)];
    const ENCODED: Table = &[must("command_b64", Base64)];
    const HTTP: Table = &[
        must("command", Text),
        may("headers", Lists),
        may("content", Loose),
        may("content_b64", Base64),
    ];
    const OPENC2: Table = &[
        must("command", Text),
        may("headers", Lists),
        must("content_b64", Base64),
    ];
    Some(match kind {
        "manual" | "bash" | "caldera-cmd" | "powershell" | "ssh" => EITHER,
        "elastic" | "jupyter" | "kestrel" | "sigma" | "yara" => ENCODED,
        "http-api" => HTTP,
        "openc2-http" => OPENC2,
        _ => return None,
    })
}

/// What every agent and target can have.
pub(super) const AGENT: Table = &[
    must("type", Word(words::AGENT_TYPES)),
    must("name", Text),
    may("description", Loose),
    may("location", Object(LOCATION)),
    may("agent_target_extensions", Extensions),
];

const LOCATION: Table = &[
    may("name", Text),
    may("description", Loose),
    may("building_details", Text),
    may("network_details", Text),
    may("region", OneOf(words::REGIONS)),
    may("country", Text),
    may("administrative_area", Text),
    may("city", Text),
    may("street_address", Text),
    may("postal_code", Text),
    may("latitude", Loose),
    may("longitude", Loose),
    may("precision", Loose),
];

const CONTACT: Table = &[
    may("email", Texts),
    may("phone", Texts),
    may("contact_details", Loose),
];

/// What agents and targets of this type have besides; none: a type that CACAO does not know.
pub(super) fn agent(kind: &str) -> Option<Table> {
    const CATEGORY: Form = List(&Word(words::CATEGORIES));
    const AUTHENTICATION: Form = In("authentication_info_definitions");
    const NETWORK: Table = &[
        must("address", Addresses),
        may("port", Text),
        may("authentication_info", AUTHENTICATION),
        may("category", CATEGORY),
    ];
    const ADDRESS_ONLY: Table = &[
        must("address", Addresses),
        may("authentication_info", AUTHENTICATION),
        may("category", CATEGORY),
    ];
    Some(match kind {
        "group" | "individual" | "organization" => {
            const WHO: Table = &[may("contact", Object(CONTACT))];
            WHO
        }
        "location" => {
            const WHERE: Table = &[may("logical", List(&Text))];
            WHERE
        }
        "sector" => {
            const SECTOR: Table = &[must("sector", Word(words::SECTORS))];
            SECTOR
        }
        "http-api" | "linux" | "ssh" => NETWORK,
        "net-address" => ADDRESS_ONLY,
        "security-category" => {
            const KIND: Table = &[must("category", CATEGORY)];
            KIND
        }
        _ => return None,
    })
}

/// What all authentication information can have.
pub(super) const AUTHENTICATION: Table = &[
    must("type", Word(words::AUTHENTICATION_TYPES)),
    may("name", Loose),
    may("description", Loose),
    may("authentication_info_extensions", Extensions),
];

/// What authentication information of this type has besides; none: a type that CACAO does not know.
pub(super) fn authentication(kind: &str) -> Option<Table> {
    const BASIC: Table = &[
        may("user_id", Loose),
        may("password", Loose),
        may("kms", Bool),
        may("kms_key_identifier", Text),
    ];
    const OAUTH2: Table = &[
        must("oauth_header", Loose),
        may("token", Loose),
        may("kms", Bool),
        may("kms_key_identifier", Text),
    ];
    const USER: Table = &[
        may("username", Loose),
        may("password", Loose),
        may("kms", Bool),
        may("kms_key_identifier", Text),
    ];
    Some(match kind {
        "http-basic" => BASIC,
        "oauth2" => OAUTH2,
        "user-auth" => USER,
        _ => return None,
    })
}

pub(super) const EXTENSION_DEFINITION: Table = &[
    must("type", OneOf(&["extension-definition"])),
    must("name", Text),
    may("description", Loose),
    must("created_by", IDENTITY),
    must("schema", Text),
    must("version", Text),
    may("external_references", REFERENCES),
];

/// What every data marking has.
pub(super) const MARKING: Table = &[
    must("type", OneOf(words::MARKING_TYPES)),
    must("id", Id(words::MARKING_TYPES)),
    may("name", Loose),
    may("description", Loose),
    must("created_by", IDENTITY),
    must("created", Moment),
    may("revoked", Bool),
    may("valid_from", Moment),
    may("valid_until", Moment),
    may("labels", List(&Text)),
    // Those of an IEP policy are texts.
    may("external_references", Elsewhere),
    may("marking_extensions", Extensions),
];

/// What data markings of this type have besides.
pub(super) fn marking(kind: &str) -> Table {
    const STATEMENT: Table = &[must("statement", Text)];
    const TLP: Table = &[must("tlpv2_level", OneOf(words::TLP_LEVELS))];
    const IEP: Table = &[
        must("tlp", Text),
        must("iep_version", Whole(0, u64::MAX)),
        must("start_date", Moment),
        // Null: without an end.
        must("end_date", Elsewhere),
        must("encrypt_in_transit", Text),
        must("permitted_actions", Text),
        must("affected_party_notifications", Text),
        must("attribution", Text),
        must("unmodified_resale", Text),
    ];
    match kind {
        "marking-statement" => STATEMENT,
        "marking-tlp" => TLP,
        "marking-iep" => IEP,
        _ => &[],
    }
}

/// A variable.
pub(super) const VARIABLE: Table = &[
    must("type", Word(words::VARIABLE_TYPES)),
    may("description", Loose),
    may("value", Elsewhere),
    may("constant", Bool),
    may("external", Bool),
];
