import CLinux

/// The probe's findings for people: a line per capability, with what is missing and why.
extension Probe {
    static func describe(_ probe: guestram_probe_t, into text: inout TextBuffer) {
        text.append("userfaultfd     ")
        if probe.userfaultfd == 0 {
            text.append("yes, with KVM's and the kernel's own faults\n")
        } else {
            text.append("no: ")
            text.append(Errno(-probe.userfaultfd))
            text.append(
                "; give access to /dev/userfaultfd, or CAP_SYS_PTRACE, or set vm.unprivileged_userfaultfd=1\n"
            )
        }
        type(.anon, probe.modes.0, probe.operations.0, probe.error.0, &text)
        type(.shmem, probe.modes.1, probe.operations.1, probe.error.1, &text)
        type(.hugetlb, probe.modes.2, probe.operations.2, probe.error.2, &text)
        type(.guestMemfd, probe.modes.3, probe.operations.3, probe.error.3, &text)
        feature("write-protect of files", CL_UFFD_FEATURE_WP_HUGETLBFS_SHMEM, "Linux 5.19", probe, &text)
        feature("write-protect of holes", CL_UFFD_FEATURE_WP_UNPOPULATED, "Linux 6.4", probe, &text)
        feature("poison", CL_UFFD_FEATURE_POISON, "Linux 6.6: without it unreadable pages wait", probe, &text)
        feature("wp-async", CL_UFFD_FEATURE_WP_ASYNC, "Linux 6.7", probe, &text)
        feature("move", CL_UFFD_FEATURE_MOVE, "Linux 6.8", probe, &text)
        feature("rwp", CL_UFFD_FEATURE_RWP, "Linux 7.3", probe, &text)
        text.append("landlock        ")
        if probe.landlock_abi > 0 {
            text.append("ABI ")
            text.append(probe.landlock_abi)
        } else {
            text.append("no: the kernel lacks it, or lsm= does not name it")
        }
        text.append(probe.seccomp != 0 ? "\nseccomp         yes\n" : "\nseccomp         no: CONFIG_SECCOMP_FILTER\n")
    }

    private static func type(
        _ type: MemoryType, _ modes: UInt32, _ operations: UInt32, _ error: Int32,
        _ text: inout TextBuffer
    ) {
        pad(type.name, &text)
        guard error == 0 else {
            if type.needsVM && error == -EOPNOTSUPP {
                text.append("filled before the run: this kernel's UFFDIO_REGISTER does not take it\n")
            } else {
                text.append("no: ")
                text.append(Errno(-error))
                text.append("\n")
            }
            return
        }
        text.append("faults")
        if modes & UInt32(GUESTRAM_MODE_MISSING) != 0 { text.append(" missing") }
        if modes & UInt32(GUESTRAM_MODE_MINOR) != 0 { text.append(" minor") }
        if modes & UInt32(GUESTRAM_MODE_WP) != 0 { text.append(" wp") }
        text.append("; fills")
        operation("copy", GUESTRAM_OP_COPY, operations, &text)
        operation("zeropage", GUESTRAM_OP_ZEROPAGE, operations, &text)
        operation("continue", GUESTRAM_OP_CONTINUE, operations, &text)
        operation("poison", GUESTRAM_OP_POISON, operations, &text)
        operation("move", GUESTRAM_OP_MOVE, operations, &text)
        operation("writeprotect", GUESTRAM_OP_WRITEPROTECT, operations, &text)
        text.append("\n")
    }

    private static func operation(
        _ name: StaticString, _ number: Int, _ operations: UInt32, _ text: inout TextBuffer
    ) {
        guard operations & 1 << UInt32(number) != 0 else { return }
        text.append(" ")
        text.append(name)
    }

    private static func feature(
        _ name: StaticString, _ bit: UInt64, _ since: StaticString, _ probe: guestram_probe_t,
        _ text: inout TextBuffer
    ) {
        pad(name, &text)
        if probe.uffd_features & bit != 0 {
            text.append("yes\n")
        } else {
            text.append("no: from ")
            text.append(since)
            text.append("\n")
        }
    }

    private static func pad(_ name: StaticString, _ text: inout TextBuffer) {
        text.append(name)
        for _ in min(name.utf8CodeUnitCount, 23)..<24 { text.append(" ") }
    }
}
