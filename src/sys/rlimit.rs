//! Resource limits.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Which limit could not be raised, and to what.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// `RLIMIT_NOFILE` or `RLIMIT_NPROC`.
    pub name: &'static str,
    /// What was asked for.
    pub wanted: u64,
    /// Whether it is so now.
    pub raised: bool,
}

/// Raises the soft limits on descriptors and processes to at least these, for rsup and all it starts; the hard ones
/// too where they are lower (supervisord's `minfds` and `minprocs`). Tells of each that was not enough.
pub fn raise_limits(minfds: u64, minprocs: u64, mut tell: impl FnMut(Limit)) {
    let wanted = [
        (Resource::RLIMIT_NOFILE, "RLIMIT_NOFILE", minfds),
        (Resource::RLIMIT_NPROC, "RLIMIT_NPROC", minprocs),
    ];
    for (resource, name, wanted) in wanted {
        // RLIM_INFINITY is the highest number.
        if let Ok((soft, hard)) = getrlimit(resource)
            && soft < wanted
        {
            let raised = setrlimit(resource, wanted, hard.max(wanted)).is_ok();
            if !raised {
                // As far as it goes.
                let _ = setrlimit(resource, hard, hard);
            }
            tell(Limit { name, wanted, raised });
        }
    }
}

/// Makes room for this many descriptors in rsup itself, as far as the hard limit allows. Returns the soft limit that
/// programs are to have all the same, where that is another one now.
pub fn raise_nofile_for(descriptors: u64) -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let wanted = descriptors.min(hard);
    (soft < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok()).then_some(soft)
}

/// Sets the soft limit on descriptors. Async-signal-safe.
pub(super) fn set_nofile_soft_limit(soft: u64) {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Lower than it is, which is always allowed.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, soft, hard);
    }
}
