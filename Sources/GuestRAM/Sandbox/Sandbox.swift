import CLinux

/// What a filter allows in place of `fd`: numbers [base, base + count), a DescriptorBlock's.
struct DescriptorRange: Sendable {
    let base: Int32
    let count: Int32
}

struct SandboxRequest: Sendable {
    let mode: Int  // GUESTRAM_SANDBOX_*
    let descriptors: DescriptorRange
}

/// What one worker got. enter() runs where no message would be seen: the thread that starts the
/// workers calls check().
struct SandboxLayers: Sendable {
    fileprivate(set) var layers: UInt32 = 0  // bits of GUESTRAM_SANDBOX_SIGNALS...
    fileprivate(set) var missing: UInt32 = 0
    /// Where denied calls are reported, in log mode; else -1. The pool closes it after the thread.
    fileprivate(set) var listener: Int32 = -1
    private var failed = 0  // the layer without which there is no sandbox
    private var code: Int32 = 0

    fileprivate mutating func add(_ layer: Int, _ result: Int32) {
        if result >= 0 { layers |= UInt32(layer) } else { missing |= UInt32(layer) }
    }

    /// False: the layer could not be had and the worker must not go on.
    fileprivate mutating func need(_ layer: Int, _ result: Int32) -> Bool {
        add(layer, result)
        guard result < 0 else { return true }
        failed = layer
        code = -result
        return false
    }

    /// Throws what kept enter() from building the sandbox.
    func check() throws(Errno) {
        let error = Errno(code)
        switch failed {
        case 0: return
        case GUESTRAM_SANDBOX_NO_NEW_PRIVS:
            throw fail(code, "sandbox: prctl(PR_SET_NO_NEW_PRIVS): \(error); \(Self.remedy)")
        case GUESTRAM_SANDBOX_CAPABILITIES:
            throw fail(code, "sandbox: capabilities could not be dropped: \(error); \(Self.remedy)")
        default:
            switch code {
            case ENOSYS, EINVAL:
                throw fail(
                    ENOSYS,
                    "sandbox: this kernel cannot load the seccomp filter (CONFIG_SECCOMP_FILTER; log mode: Linux 5.5): \(error); use another kernel, or GUESTRAM_SANDBOX_OFF"
                )
            case EBUSY:
                throw fail(
                    EBUSY,
                    "sandbox: log mode needs a seccomp listener of its own, and a filter of this process has one (a container's); use GUESTRAM_SANDBOX_ENFORCE"
                )
            default:
                throw fail(code, "sandbox: the seccomp filter could not be loaded: \(error); \(Self.remedy)")
            }
        }
    }

    private static var remedy: StaticString {
        "a filter of the VMM's own must allow it (docs/threat-model.md), or use GUESTRAM_SANDBOX_OFF"
    }
}

/// What is made once for all workers of a pool.
struct PreparedSandbox: ~Copyable, @unchecked Sendable {
    let request: SandboxRequest
    /// 0: the kernel has none.
    let landlockABI: Int32
    private let landlock: Descriptor?  // a ruleset that allows nothing
    private let filter: SandboxFilter?
    private let noCapabilities: cap_t?  // an empty set

    init(_ request: SandboxRequest) throws(Errno) {
        self.request = request
        landlockABI = max(0, cl_landlock_abi())
        guard request.mode != GUESTRAM_SANDBOX_OFF else {
            landlock = nil
            filter = nil
            noCapabilities = nil
            return
        }
        let ruleset = landlockABI > 0 ? cl_landlock_create_deny_all(landlockABI) : -EOPNOTSUPP
        landlock = ruleset >= 0 ? Descriptor(owning: ruleset) : nil
        filter = try SandboxFilter(
            allowing: request.descriptors,
            denied: request.mode == GUESTRAM_SANDBOX_LOG
                ? SCMP_ACT_NOTIFY : CL_SCMP_ACT_KILL_PROCESS)
        noCapabilities = cap_init()
    }

    deinit {
        if let noCapabilities { cap_free(UnsafeMutableRawPointer(noCapabilities)) }
    }

    /// Locks the calling thread in, for good. Called by a worker before its first fault, after all
    /// that it needs is open, mapped and touched.
    func enter() -> SandboxLayers {
        var result = SandboxLayers()
        result.add(GUESTRAM_SANDBOX_SIGNALS, blockSignals())
        guard request.mode != GUESTRAM_SANDBOX_OFF else { return result }
        // Securebits need a capability, Landlock and seccomp need no_new_privs, and the filter
        // forbids all of it.
        result.add(GUESTRAM_SANDBOX_SECUREBITS, cl_prctl(PR_SET_SECUREBITS, CL_SECUREBITS_LOCKED, 0, 0, 0))
        guard result.need(GUESTRAM_SANDBOX_NO_NEW_PRIVS, cl_set_no_new_privs()),
            result.need(GUESTRAM_SANDBOX_CAPABILITIES, cl_cap_drop_all(noCapabilities))
        else { return result }
        result.add(GUESTRAM_SANDBOX_LANDLOCK, restrictFiles())
        let loaded = loadFilter()
        guard result.need(GUESTRAM_SANDBOX_SECCOMP, loaded) else { return result }
        if request.mode == GUESTRAM_SANDBOX_LOG { result.listener = loaded }
        return result
    }

    /// A handler of the VMM's that ran here would be killed at its first call. glibc's own two
    /// signals stay: setresuid() in another thread would wait for this one for ever.
    private func blockSignals() -> Int32 {
        var all = sigset_t()
        sigfillset(&all)
        return -pthread_sigmask(SIG_BLOCK, &all, nil)
    }

    private func restrictFiles() -> Int32 {
        switch landlock {
        case .some(let ruleset): cl_landlock_restrict_self(ruleset.raw)
        case .none: -EOPNOTSUPP
        }
    }

    private func loadFilter() -> Int32 {
        switch filter {
        case .some(let filter): filter.load()
        case .none: -EINVAL
        }
    }
}

/// Takes one denied call off a worker's listener, after poll() has found it readable: the call
/// fails with EPERM, and its number is returned. nil: its thread is gone.
func nextDenied(listener: Int32) -> Int32? {
    var number: Int32 = 0
    return cl_seccomp_notify_deny(listener, EPERM, &number) == 0 ? number : nil
}
