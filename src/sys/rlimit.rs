//! Resource limits of rsup's own process, which its children inherit.

use super::errno::{Errno, cvt};
use nix::sys::resource::{Resource, getrlimit};
use std::ptr;

/// A soft limit that was lower than the configured minimum.
#[derive(Clone, Copy, Debug)]
pub struct TooLowLimit {
    /// `RLIMIT_NOFILE` or `RLIMIT_NPROC`.
    pub name: &'static str,
    /// The configured minimum: a number of descriptors or of processes.
    pub wanted: u64,
    /// `Ok` if the soft limit is `wanted` now. Otherwise the errno of the prlimit(2) that failed.
    pub raised: Result<(), Errno>,
}

/// Raises the soft limits on descriptors and processes to at least `minfds` and `minprocs`, as supervisord does with
/// the keys of these names. If the hard limit is too low, raises the hard limit too. If the kernel refuses that, raises
/// the soft limit only up to the hard limit. Calls `report` for every soft limit that was too low.
pub fn raise_limits(minfds: u64, minprocs: u64, mut report: impl FnMut(TooLowLimit)) {
    let minima = [
        (Resource::RLIMIT_NOFILE, "RLIMIT_NOFILE", minfds),
        (Resource::RLIMIT_NPROC, "RLIMIT_NPROC", minprocs),
    ];
    for (resource, name, wanted) in minima {
        // RLIM_INFINITY is the highest number, so an unlimited resource is never too low.
        if let Ok((soft, hard)) = getrlimit(resource)
            && soft < wanted
        {
            let raised = set_limit(resource, wanted, hard.max(wanted));
            if raised.is_err() {
                // The hard limit is below `wanted`, and only a privileged process may raise a hard limit. An error of
                // this second prlimit(2) is ignored, because `report` gets the errno of the first prlimit(2).
                let _ = set_limit(resource, hard, hard);
            }
            report(TooLowLimit { name, wanted, raised });
        }
    }
}

/// Raises rsup's own soft limit on descriptors to `descriptors`, or to the hard limit if the hard limit is lower.
/// Returns the former soft limit if this call has changed the limit. rsup's programs must be started with the former
/// soft limit.
pub fn raise_nofile_for(descriptors: u64) -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let wanted = descriptors.min(hard);
    (soft < wanted && set_limit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok()).then_some(soft)
}

/// Returns rsup's own soft limit on descriptors. Returns `u64::MAX` if a seccomp filter refuses getrlimit(2).
pub fn soft_nofile_limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft)
}

/// Lowers the soft limit on descriptors to `soft`. Async-signal-safe.
pub(super) fn set_nofile_soft_limit(soft: u64) {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // A process may always lower its limits.
        let _ = set_limit(Resource::RLIMIT_NOFILE, soft, hard);
    }
}

/// Sets the soft and the hard limit of a resource with prlimit(2). setrlimit(2) is not used, because musl's function of
/// this name is not async-signal-safe: if the kernel has no prlimit(2), musl stops all other threads before it calls
/// setrlimit(2).
fn set_limit(resource: Resource, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: prlimit(2) reads one rlimit from `limit`. The null pointer means that prlimit(2) does not write the
    // former limit. PID 0 means the calling process.
    cvt(unsafe { libc::prlimit(0, resource as _, &raw const limit, ptr::null_mut()) }.into()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sufficient_limit_is_neither_changed_nor_reported() {
        let before = getrlimit(Resource::RLIMIT_NOFILE);
        raise_limits(1, 0, |limit| panic!("{limit:?}"));
        assert_eq!(raise_nofile_for(1), None);
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE), before);
    }
}
