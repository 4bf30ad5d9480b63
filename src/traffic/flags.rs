//! Tollgate's own feature flags: the actuator that needs nothing else installed.
//!
//! Each service has one flag with two variants, `control` and `canary`. A shift sets who is on which side, and services
//! ask over OpenFeature's remote evaluation protocol which side a user is on.
//!
//! The flags live in memory. Putting them on disk would make a second record beside the journal, and the two could
//! differ; instead whoever starts the process puts back in force what the journal says stood. Until then a flag says
//! control for everybody, which is the safe side. Hence the rule of what is taken (see [`Flags`]): what takes traffic
//! away always, what gives more only to those who know what stands.

use std::{
    collections::{BTreeMap, VecDeque},
    future,
    sync::{Arc, PoisonError, RwLock},
};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::{Actuator, Error, FlagState, FlagValue, Standing};
use crate::{
    domain::{Exposure, RequestId, ServiceName, Share, Shift, Text},
    rails::Cleared,
};

/// Most flags there may be: the bulk endpoint answers for all of them at once.
pub const FLAGS_MAX: usize = 500;
/// Most bytes of a flag's key.
pub const KEY_BYTES_MAX: usize = 100;
/// How many of the last requests of each service are remembered, so that a repeated one is known.
pub const REQUESTS_KEPT: usize = 64;

/// The flags there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// One flag a service. At most [`FLAGS_MAX`].
    pub flags: BTreeMap<ServiceName, FlagConfig>,
}

/// One service's flag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlagConfig {
    /// What the service asks for. ASCII letters, digits, `-`, `_` and `.`, beginning with a letter or digit, at most
    /// [`KEY_BYTES_MAX`] bytes: clients put it into a path without escaping it.
    pub key: String,
    /// What its value looks like.
    pub value: FlagValue,
}

/// The flags as they stand; cheap to clone, and all clones are one.
///
/// A shift is taken or refused by these rules, where *what stands* is the exposure of the shift's own rollout:
/// 1. Whatever gives nobody the new version who does not have it is taken, whatever its `from` says.
/// 2. Where the rollout stands, one that raises is taken only if `from` is what stands (compare and set).
/// 3. Where nothing stands of it, because it begins or because the process started again, one that raises is taken if
///    it starts from nobody, or if it only puts back in force (part of) what its `from` says was confirmed.
/// 4. A rollout older than the one that stands raises nothing any more. It may still be rolled back, which leaves nobody
///    on anything newer than its control; but where it had nobody it has nothing to take away, and changes nothing.
#[derive(Clone, Debug)]
pub struct Flags {
    flags: Arc<Index>,
}

#[derive(Debug)]
struct Index {
    by_key: BTreeMap<String, Arc<RwLock<Flag>>>,
    by_service: BTreeMap<ServiceName, Arc<RwLock<Flag>>>,
}

/// A flag and the shifts it remembers, oldest first. Readers take the state with them and hold no lock meanwhile.
#[derive(Debug)]
struct Flag {
    state: Arc<FlagState>,
    taken: VecDeque<(RequestId, Shift)>,
}

impl Flags {
    /// Every configured flag, saying control for everybody.
    ///
    /// # Errors
    /// [`Error::Refused`] for too many flags, a key out of form, or one key for two services.
    pub fn new(config: &Config) -> Result<Self, Error> {
        if config.flags.len() > FLAGS_MAX {
            return Err(refused(format!("{} flags are configured, at most {FLAGS_MAX} can be", config.flags.len())));
        }
        let mut flags = Index { by_key: BTreeMap::new(), by_service: BTreeMap::new() };
        for (service, FlagConfig { key, value }) in &config.flags {
            if !is_key(key) {
                return Err(refused(format!(
                    "`{}` is no flag key for {service}: write at most {KEY_BYTES_MAX} letters, digits, `-`, `_` or `.`, \
                     the first a letter or digit",
                    Text::new(key)
                )));
            }
            let state = Arc::new(FlagState::new(service.clone(), key, *value));
            let flag = Arc::new(RwLock::new(Flag { state, taken: VecDeque::new() }));
            flags.by_service.insert(service.clone(), flag.clone());
            if flags.by_key.insert(key.clone(), flag).is_some() {
                return Err(refused(format!("two services share the flag `{key}`: give {service} a key of its own")));
            }
        }
        Ok(Self { flags: Arc::new(flags) })
    }

    /// The flag with this key as it stands.
    pub fn state(&self, key: &str) -> Option<Arc<FlagState>> {
        self.flags.by_key.get(key).map(|flag| state_of(flag))
    }

    /// Every flag as it stands, by key.
    pub fn states(&self) -> impl Iterator<Item = Arc<FlagState>> {
        self.flags.by_key.values().map(|flag| state_of(flag))
    }

    fn flag(&self, service: &ServiceName) -> Result<&RwLock<Flag>, Error> {
        self.flags
            .by_service
            .get(service)
            .map(|flag| &**flag)
            .ok_or_else(|| refused(format!("{service} has no flag: configure one under `flags`")))
    }

    fn set(&self, request: RequestId, shift: &Shift) -> Result<Exposure, Error> {
        let flag = self.flag(&shift.service)?;
        // Only whole values are written under the lock, so a writer that broke has left nothing half done.
        let mut flag = flag.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, taken)) = flag.taken.iter().find(|(id, _)| *id == request) {
            if taken != shift {
                return Err(refused(format!("request {request} has already carried another shift to {}", taken.to)));
            }
            return Ok(read_back(&flag.state, shift));
        }
        admit(&flag.state, shift).map_err(refused)?;
        let standing = Some(Standing {
            rollout: shift.rollout,
            control: shift.control.clone(),
            canary: shift.canary.clone(),
            exposure: shift.to.clone(),
        });
        if flag.state.standing != standing && !is_overtaken(&flag.state, shift) {
            let version = flag.state.version.saturating_add(1);
            flag.state = Arc::new(FlagState { standing, version, ..FlagState::clone(&flag.state) });
        }
        if flag.taken.len() == REQUESTS_KEPT {
            flag.taken.pop_front();
        }
        flag.taken.push_back((request, shift.clone()));
        Ok(read_back(&flag.state, shift))
    }
}

impl Actuator for Flags {
    fn shift<'a>(&'a self, request: RequestId, shift: &'a Cleared<Shift>) -> BoxFuture<'a, Result<Exposure, Error>> {
        Box::pin(future::ready(self.set(request, shift.get())))
    }

    fn read<'a>(&'a self, service: &'a ServiceName) -> BoxFuture<'a, Result<Exposure, Error>> {
        Box::pin(future::ready(self.flag(service).map(|flag| state_of(flag).exposure())))
    }
}

fn state_of(flag: &RwLock<Flag>) -> Arc<FlagState> {
    flag.read().unwrap_or_else(PoisonError::into_inner).state.clone()
}

/// What stands of the rollout and revision this shift is for; nobody has it where another one has taken over.
fn read_back(state: &FlagState, shift: &Shift) -> Exposure {
    let own = |standing: &&Standing| standing.rollout == shift.rollout && standing.canary == shift.canary;
    state.standing.as_ref().filter(own).map_or_else(Exposure::none, |standing| standing.exposure.clone())
}

/// Whether a shift only says that nobody has a version which another rollout has long replaced. Rollouts put back in force
/// after a restart may come in any order, and the old ones must not undo the newest.
fn is_overtaken(state: &FlagState, shift: &Shift) -> bool {
    let newer = state.standing.as_ref().is_some_and(|standing| standing.rollout > shift.rollout);
    newer && shift.from.is_none() && shift.to.is_none()
}

/// Whether a shift may be put in force; the rules are told at [`Flags`].
fn admit(state: &FlagState, shift: &Shift) -> Result<(), String> {
    let Shift { service, rollout, from, to, .. } = shift;
    if to.mirror > Share::NONE {
        return Err(format!("a flag cannot mirror requests: take `mirror` out of the stages of {service}"));
    }
    if !to.exceeds(&read_back(state, shift)) {
        return Ok(());
    }
    match &state.standing {
        Some(standing) if standing.rollout > *rollout => {
            Err(format!("{rollout} raises nothing any more: {} has taken over {service}", standing.rollout))
        }
        Some(standing) if standing.rollout == *rollout => {
            if standing.canary != shift.canary {
                return Err(format!("{rollout} ships {} and not {}", standing.canary.short(), shift.canary.short()));
            }
            if standing.exposure != *from {
                let stands = &standing.exposure;
                return Err(format!("{service} stands at {stands} and not at {from}, so it is not raised to {to}"));
            }
            Ok(())
        }
        Some(_) | None if from.is_none() || !shift.raises() => Ok(()),
        Some(_) | None => {
            Err(format!("nothing stands of {rollout} since the start: put {from} back in force, then go on to {to}"))
        }
    }
}

fn is_key(key: &str) -> bool {
    key.len() <= KEY_BYTES_MAX
        && key.starts_with(|c: char| c.is_ascii_alphanumeric())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn refused(why: impl AsRef<str>) -> Error {
    Error::Refused(Text::new(why))
}
