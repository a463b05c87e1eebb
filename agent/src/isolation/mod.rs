//! Cutting a host off the network, and letting it back.
//!
//! What holds, whatever fails:
//! - **Atomic.** All rules come in one transaction, and go in one ([`ruleset`]).
//! - **Nobody is stranded.** The kernel itself ends the isolation when its lease is over. At first that is
//!   only `confirm_within`; the whole `ttl` is set when a *new* connection to a coordinator has succeeded
//!   through the rules, and they are taken back at once when it has not.
//! - **Survives the agent.** The rules are the kernel's; what was set is in the agent's state folder
//!   ([`state`]), written before it is set. [`restore`] puts a confirmed isolation back after a reboot.
//! - **Nobody else's rules are touched**, and edits of ours by somebody else are told at the release.
//!
//! Deliberately absent: names in rules (addresses are resolved before), and connection tracking.

mod connections;
mod nft;
mod observed;
mod ruleset;
mod state;
mod surroundings;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::nft::{Nft, NftError};
use self::observed::{foreign_edits, observe};
use self::ruleset::Spec;
use self::state::Saved;
use crate::actions::{ActionError, Environment, IsolationMode};

/// The shortest time for a confirmation: below it, a slow handshake would undo an isolation.
const CONFIRM_WITHIN_MIN: Duration = Duration::from_secs(2);

/// Between two attempts to confirm.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// One isolation or release at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// An isolation that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// The host's resolvers stay reachable.
    pub dns: bool,
    /// How long it lasts.
    pub ttl: Duration,
    /// How long a confirmation may take.
    pub confirm_within: Duration,
}

/// An isolation that was carried out, or only checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Isolated {
    /// It is in force.
    pub isolated: bool,
    /// Milliseconds since 1970; 0 when it is not in force.
    pub lease_until_ms: u64,
    /// What stays reachable, in words.
    pub allowed: Vec<String>,
    /// TCP connections that were live and are not any more.
    pub connections_cut: u64,
    /// Of the rules.
    pub ruleset_sha256: String,
    /// Codes of what is less than it could be.
    pub warnings: Vec<&'static str>,
}

/// A release that was carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Nothing of ours judges packets any more.
    pub released: bool,
    /// The lease was still running.
    pub was_isolated: bool,
    /// What somebody else changed in our tables.
    pub foreign_edits: Vec<String>,
}

/// What [`restore`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// No isolation was in force.
    Nothing,
    /// It is in force as it was.
    Kept,
    /// It was put back, for the rest of its lease.
    PutBack,
    /// It had ended; its traces were removed.
    Ended,
}

/// Isolates this host, or renews and replaces the isolation that is in force.
///
/// # Errors
/// `unsupported` and `denied` with how to mend it; `unresolvable` when no coordinator has an address;
/// `not_confirmed` when no coordinator could be reached through the rules, `cancelled`: in both cases the
/// host is as it was before.
pub async fn isolate(
    order: Order,
    environment: &Environment,
    cancel: &CancellationToken,
) -> Result<Isolated, ActionError> {
    let _one = ONE_AT_A_TIME.lock().await;
    let mut spec = Spec {
        coordinators: surroundings::resolve(&environment.coordinators).await?,
        resolvers: if order.dns {
            surroundings::resolvers()
        } else {
            BTreeSet::new()
        },
        links: surroundings::links()?,
    };
    let nft = match (Nft::find(), environment.isolation) {
        (Err(NftError::Missing), IsolationMode::Check) => {
            return Ok(Isolated::checked(&spec, vec!["check_only", "nft_missing"]));
        }
        (nft, _) => nft?,
    };
    let confirm_within = order.confirm_within.max(CONFIRM_WITHIN_MIN);
    let mut warnings = match narrow_to_kernel(&nft, &mut spec, confirm_within).await {
        // Even `nft -c` asks the kernel, which answers root only.
        Err(error) if error.code == "denied" && environment.isolation == IsolationMode::Check => {
            return Ok(Isolated::checked(&spec, vec!["check_only", "nft_denied"]));
        }
        narrowed => narrowed?,
    };
    if environment.isolation == IsolationMode::Check {
        warnings.insert(0, "check_only");
        return Ok(Isolated::checked(&spec, warnings));
    }

    let state_dir = environment.state_dir.as_path();
    let before = observe(&nft).await?;
    // What cannot be read must not keep a host from being isolated; it is replaced below.
    let saved = Saved::load(state_dir).unwrap_or_default();
    let previous = saved.filter(|saved| saved.confirmed && before.leased);
    if let Some(previous) = &previous
        && !foreign_edits(&previous.baseline, &before).is_empty()
    {
        warnings.push("foreign_edits_replaced");
    }
    // A renewal that is never confirmed must not shorten what is in force.
    let trial = confirm_within.max(
        previous
            .as_ref()
            .map_or(Duration::ZERO, |_| Duration::from_secs(before.lease_left_s)),
    );

    let started = Instant::now();
    remember(state_dir, &spec, trial, previous.is_some(), Vec::new())?;
    if let Err(error) = nft.apply(&ruleset::isolation(&spec, seconds(trial))).await {
        let error = ActionError::from(error);
        take_back(&nft, state_dir, previous, &spec)
            .await
            .map_err(ActionError::uncertain)?;
        return Err(error);
    }
    // The kernel would end a first trial at its deadline: a success after that would prove nothing.
    let margin = (confirm_within / 4).min(Duration::from_secs(1));
    let confirmed = confirm(environment, started + confirm_within - margin, cancel).await;
    let confirmed = match confirmed {
        Ok(()) => nft
            .apply(&ruleset::isolation(&spec, seconds(order.ttl)))
            .await
            .map_err(ActionError::from),
        Err(error) => Err(error),
    };
    if let Err(error) = confirmed {
        return match take_back(&nft, state_dir, previous, &spec).await {
            Ok(()) => Err(error),
            Err(second) => {
                let message = format!(
                    "{}; taking the rules back failed too ({}), the kernel lifts them within {trial:?}",
                    error.message, second.message
                );
                Err(ActionError::new(error.code, message).uncertain())
            }
        };
    }
    let baseline = observe(&nft).await.map(|now| now.lines).unwrap_or_default();
    let lease_until_ms =
        remember(state_dir, &spec, order.ttl, true, baseline).map_err(ActionError::uncertain)?;
    let connections_cut = match connections::cut(&spec) {
        Ok((cut, 0)) => cut,
        Ok((cut, _)) => {
            warnings.push("connections_blocked_not_ended");
            cut
        }
        Err(_) => {
            warnings.push("connections_not_counted");
            0
        }
    };
    Ok(Isolated {
        isolated: true,
        lease_until_ms,
        allowed: spec.allowed(),
        connections_cut,
        ruleset_sha256: spec.sha256(),
        warnings,
    })
}

/// Lets this host back: removes our tables, and nothing else.
///
/// # Errors
/// `denied`, `refused`, `timeout`, `io`: the isolation is still in force, and ends with its lease.
pub async fn release(environment: &Environment) -> Result<Released, ActionError> {
    let _one = ONE_AT_A_TIME.lock().await;
    if environment.isolation == IsolationMode::Check {
        return Ok(Released::default());
    }
    let nft = match Nft::find() {
        // Without nft nothing was ever isolated.
        Err(NftError::Missing) => {
            return Ok(Released {
                released: true,
                ..Released::default()
            });
        }
        nft => nft?,
    };
    let now = observe(&nft).await?;
    let saved = Saved::load(&environment.state_dir).unwrap_or_default();
    let edits = match &saved {
        Some(saved) if saved.confirmed && !saved.baseline.is_empty() => {
            let edits = foreign_edits(&saved.baseline, &now);
            // A lease that ran out leaves the tables; a reboot does not, and that is nobody's edit.
            if now.present || saved.is_of_this_boot() {
                edits
            } else {
                Vec::new()
            }
        }
        _ => Vec::new(),
    };
    remove(
        &nft,
        saved.as_ref().is_none_or(|saved| !saved.spec.links.is_empty()),
    )
    .await?;
    Saved::forget(&environment.state_dir)
        .map_err(|error| ActionError::io("forgetting the isolation, which is lifted", &error).uncertain())?;
    Ok(Released {
        released: true,
        was_isolated: now.leased,
        foreign_edits: edits,
    })
}

/// Brings the firewall and the agent's memory together when the agent starts: after a crash the rules
/// are still there; after a reboot a confirmed isolation whose lease still runs is put back.
///
/// # Errors
/// As [`release`].
pub async fn restore(state_dir: &Path) -> Result<Restored, ActionError> {
    let _one = ONE_AT_A_TIME.lock().await;
    let saved = Saved::load(state_dir)
        .map_err(|error| ActionError::io("reading what is known of an isolation", &error))?;
    let Some(saved) = saved else {
        return Ok(Restored::Nothing);
    };
    let nft = Nft::find()?;
    let now = observe(&nft).await?;
    if now.leased {
        return Ok(Restored::Kept);
    }
    let left_ms = saved.lease_until_ms.saturating_sub(now_ms());
    if saved.confirmed && left_ms > 0 && !saved.is_of_this_boot() {
        let lease = Duration::from_millis(left_ms);
        nft.apply(&ruleset::isolation(&saved.spec, seconds(lease)))
            .await?;
        let baseline = observe(&nft).await?.lines;
        remember(state_dir, &saved.spec, lease, true, baseline)?;
        return Ok(Restored::PutBack);
    }
    remove(&nft, !saved.spec.links.is_empty()).await?;
    Saved::forget(state_dir)
        .map_err(|error| ActionError::io("forgetting an isolation that has ended", &error))?;
    Ok(Restored::Ended)
}

impl Isolated {
    fn checked(spec: &Spec, warnings: Vec<&'static str>) -> Self {
        Isolated {
            isolated: false,
            lease_until_ms: 0,
            allowed: spec.allowed(),
            connections_cut: 0,
            ruleset_sha256: spec.sha256(),
            warnings,
        }
    }
}

impl Saved {
    fn is_of_this_boot(&self) -> bool {
        state::boot_id().is_ok_and(|boot_id| boot_id == self.boot_id)
    }
}

/// Leaves out of `spec` what this kernel cannot do, and says so.
async fn narrow_to_kernel(
    nft: &Nft,
    spec: &mut Spec,
    lease: Duration,
) -> Result<Vec<&'static str>, ActionError> {
    match nft.check(&ruleset::isolation(spec, seconds(lease))).await {
        Ok(()) => Ok(Vec::new()),
        Err(NftError::Refused(_)) if !spec.links.is_empty() => {
            spec.links.clear();
            nft.check(&ruleset::isolation(spec, seconds(lease))).await?;
            Ok(vec!["egress_guard_off"])
        }
        Err(error) => Err(error.into()),
    }
}

/// Asks a coordinator over a new connection, again and again until the deadline.
async fn confirm(
    environment: &Environment,
    deadline: Instant,
    cancel: &CancellationToken,
) -> Result<(), ActionError> {
    let mut last = "there was no time for an attempt".to_owned();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let message = format!(
                "no coordinator could be reached through the isolation's rules, which were taken back: the host is \
                 not isolated by this order. Last attempt: {last}. Look at `coordinators` in agent.toml, and at \
                 firewalls and proxies between the host and the coordinators"
            );
            return Err(ActionError::new("not_confirmed", message));
        }
        let attempt = tokio::time::timeout(left, environment.probe.probe(left));
        tokio::select! {
            () = cancel.cancelled() => return Err(ActionError::cancelled()),
            answer = attempt => match answer {
                Ok(Ok(())) if Instant::now() < deadline => return Ok(()),
                Ok(Ok(())) => {}
                Ok(Err(error)) => last = error,
                Err(_) => last = "no answer in time".to_owned(),
            },
        }
        tokio::time::sleep_until(deadline.min(Instant::now() + RETRY_AFTER)).await;
    }
}

/// Puts back what was before an attempt: nothing, or the isolation that was in force.
async fn take_back(
    nft: &Nft,
    state_dir: &Path,
    previous: Option<Saved>,
    tried: &Spec,
) -> Result<(), ActionError> {
    let Some(previous) = previous else {
        remove(nft, !tried.links.is_empty()).await?;
        return Saved::forget(state_dir)
            .map_err(|error| ActionError::io("forgetting an isolation that failed", &error));
    };
    let lease =
        Duration::from_millis(previous.lease_until_ms.saturating_sub(now_ms())).max(Duration::from_secs(1));
    nft.apply(&ruleset::isolation(&previous.spec, seconds(lease)))
        .await?;
    previous
        .save(state_dir)
        .map_err(|error| ActionError::io("remembering the isolation in force", &error))
}

/// Removes our tables; the guard of the links only exists where the kernel has that family.
async fn remove(nft: &Nft, with_links: bool) -> Result<(), ActionError> {
    match nft.apply(&ruleset::removal(with_links)).await {
        Err(NftError::Refused(_)) if with_links => Ok(nft.apply(&ruleset::removal(false)).await?),
        other => Ok(other?),
    }
}

/// Writes down what is about to be, or is, in force. Gives when its lease ends.
fn remember(
    state_dir: &Path,
    spec: &Spec,
    lease: Duration,
    confirmed: bool,
    baseline: Vec<String>,
) -> Result<u64, ActionError> {
    let lease_until_ms = now_ms() + seconds(lease) * 1000;
    Saved::new(spec.clone(), lease_until_ms, confirmed, baseline)
        .and_then(|saved| saved.save(state_dir))
        .map_err(|error| {
            ActionError::io(
                &format!("remembering the isolation in {}", state_dir.display()),
                &error,
            )
        })?;
    Ok(lease_until_ms)
}

/// Whole seconds, at least one: nft counts leases in them.
fn seconds(lease: Duration) -> u64 {
    lease.as_millis().div_ceil(1000).clamp(1, u128::from(u32::MAX)) as u64
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}
