// swift-tools-version: 6.2
// The Swift side, un-embedded, for its unit tests. The archive that ships is built by CMake.
import PackageDescription

// Glibc's module comes into the tests with Testing; without this its structs and those that CLinux
// sees would differ.
let gnuSource: [SwiftSetting] = [.unsafeFlags(["-Xcc", "-D_GNU_SOURCE"])]

let package = Package(
    name: "guestram",
    targets: [
        .target(name: "CLinux"),
        .target(name: "GuestRAM", dependencies: ["CLinux"], swiftSettings: gnuSource),
        .testTarget(
            name: "GuestRAMTests", dependencies: ["GuestRAM"], swiftSettings: gnuSource),
    ],
    swiftLanguageModes: [.v6],
    cLanguageStandard: .c11
)
