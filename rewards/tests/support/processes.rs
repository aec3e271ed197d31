//! Processes that tests start: confined as in a container, and waited for. Shared by the tests of several crates.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// Refuses a command what the filter of a container refuses: namespaces and mounts.
pub fn contain(command: &mut Command) {
    let spaces = [libc::CLONE_NEWUSER, libc::CLONE_NEWPID, libc::CLONE_NEWNS];
    let with = |flag: i32| {
        let op = SeccompCmpOp::MaskedEq(flag as u64);
        SeccompRule::new(vec![SeccompCondition::new(0, SeccompCmpArgLen::Dword, op, flag as u64).unwrap()])
            .unwrap()
    };
    let mut rules = std::collections::BTreeMap::from([(libc::SYS_clone, spaces.map(with).to_vec())]);
    for call in [libc::SYS_unshare, libc::SYS_setns, libc::SYS_mount, libc::SYS_umount2] {
        rules.insert(call, vec![]);
    }
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).unwrap();
    let filter: BpfProgram = filter.try_into().unwrap();
    let apply = move || {
        seccompiler::apply_filter(&filter).map_err(|_| std::io::Error::from_raw_os_error(libc::EPERM))
    };
    // SAFETY: two system calls on a program that was made before the fork.
    unsafe { command.pre_exec(apply) };
}

/// Waits until something is so; a machine may be busy, but not for ever.
pub fn wait_until(what: &str, is: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(120);
    while !is() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
