//! The words of CACAO 2.0 (the open vocabularies and the enumerations of its text), sorted as they stand there.

/// `playbook-type-ov`.
pub(super) const PLAYBOOK_TYPES: &[&str] = &[
    "attack",
    "detection",
    "engagement",
    "investigation",
    "mitigation",
    "notification",
    "prevention",
    "remediation",
];

/// `playbook-activity-type-ov`.
pub(super) const ACTIVITIES: &[&str] = &[
    "compose-content",
    "deliver-content",
    "identify-audience",
    "identify-channel",
    "scan-system",
    "match-indicator",
    "analyze-collected-data",
    "identify-indicators",
    "scan-vulnerabilities",
    "configure-systems",
    "restrict-access",
    "disconnect-system",
    "eliminate-risk",
    "revert-system",
    "restore-data",
    "restore-capabilities",
    "map-network",
    "identify-steps",
    "step-sequence",
    "prepare-engagement",
    "execute-operation",
    "analyze-engagement-results",
];

/// `industry-sector-ov`.
pub(super) const SECTORS: &[&str] = &[
    "aerospace",
    "aviation",
    "agriculture",
    "automotive",
    "biotechnology",
    "chemical",
    "commercial",
    "consulting",
    "construction",
    "cosmetics",
    "critical-infrastructure",
    "dams",
    "defense",
    "education",
    "emergency-services",
    "energy",
    "non-renewable-energy",
    "renewable-energy",
    "media",
    "financial",
    "food",
    "gambling",
    "government",
    "local-government",
    "national-government",
    "regional-government",
    "public-services",
    "healthcare",
    "information-communications-technology",
    "electronics-hardware",
    "software",
    "telecommunications",
    "legal-services",
    "lodging",
    "manufacturing",
    "maritime",
    "metals",
    "mining",
    "non-profit",
    "humanitarian-aid",
    "human-rights",
    "nuclear",
    "petroleum",
    "pharmaceuticals",
    "research",
    "transportation",
    "logistics-shipping",
    "utilities",
    "video-game",
    "water",
];

/// `security-category-type-ov`.
pub(super) const CATEGORIES: &[&str] = &[
    "aaa",
    "analytics",
    "caldera",
    "content-gateway",
    "desktop",
    "endpoint",
    "firewall",
    "handset",
    "ids",
    "ips",
    "kali",
    "manx",
    "orchestrator",
    "os-linux",
    "os-mac",
    "os-windows",
    "redcanary-atomicred",
    "ragdoll",
    "router",
    "sandcat",
    "server",
    "siem",
    "switch",
    "ticketing",
    "tip",
    "wireless",
];

/// `workflow-step-type-enum`: closed.
pub(super) const STEP_TYPES: &[&str] = &[
    "start",
    "end",
    "action",
    "playbook-action",
    "parallel",
    "if-condition",
    "while-condition",
    "switch-condition",
];

/// `command-type-ov`.
pub(super) const COMMAND_TYPES: &[&str] = &[
    "manual",
    "bash",
    "caldera-cmd",
    "elastic",
    "http-api",
    "jupyter",
    "kestrel",
    "openc2-http",
    "powershell",
    "sigma",
    "ssh",
    "yara",
];

/// `agent-target-type-ov`.
pub(super) const AGENT_TYPES: &[&str] = &[
    "group",
    "individual",
    "location",
    "organization",
    "sector",
    "http-api",
    "linux",
    "net-address",
    "security-category",
    "ssh",
];

/// `authentication-info-type-ov`.
pub(super) const AUTHENTICATION_TYPES: &[&str] = &["http-basic", "oauth2", "user-auth"];

/// `data-marking-type-enum`: closed.
pub(super) const MARKING_TYPES: &[&str] = &["marking-statement", "marking-tlp", "marking-iep"];

/// The levels of TLP 2.0: closed.
pub(super) const TLP_LEVELS: &[&str] = &[
    "TLP:RED",
    "TLP:AMBER",
    "TLP:AMBER+STRICT",
    "TLP:GREEN",
    "TLP:CLEAR",
];

/// `variable-type-ov`.
pub(super) const VARIABLE_TYPES: &[&str] = &[
    "bool",
    "dictionary",
    "float",
    "hexstring",
    "integer",
    "ipv4-addr",
    "ipv6-addr",
    "long",
    "mac-addr",
    "hash",
    "md5-hash",
    "sha256-hash",
    "string",
    "uri",
    "uuid",
];

/// `signature-algorithm-type-ov`.
pub(super) const ALGORITHMS: &[&str] = &[
    "RS256",
    "RS384",
    "RS512",
    "ES256",
    "ES384",
    "ES512",
    "PS256",
    "PS384",
    "PS512",
    "Ed25519",
    "Ed448",
    "XMSS-SHA2_10_256",
    "XMSS-SHA2_16_256",
    "XMSS-SHA2_20_256",
    "LMS_SHA256_M32_H5",
    "LMS_SHA256_M32_H10",
    "LMS_SHA256_M32_H15",
    "LMS_SHA256_M32_H20",
    "LMS_SHA256_M32_H25",
];

/// The keys that an `address` can have.
pub(super) const ADDRESSES: &[&str] = &["dname", "ipv4", "ipv6", "l2mac", "vlan", "url"];

/// `region-enum`: closed.
pub(super) const REGIONS: &[&str] = &[
    "africa",
    "eastern-africa",
    "middle-africa",
    "northern-africa",
    "southern-africa",
    "western-africa",
    "americas",
    "caribbean",
    "central-america",
    "latin-america-caribbean",
    "northern-america",
    "south-america",
    "asia",
    "central-asia",
    "eastern-asia",
    "southern-asia",
    "south-eastern-asia",
    "western-asia",
    "europe",
    "eastern-europe",
    "northern-europe",
    "southern-europe",
    "western-europe",
    "oceania",
    "antarctica",
    "australia-new-zealand",
    "melanesia",
    "micronesia",
    "polynesia",
];
