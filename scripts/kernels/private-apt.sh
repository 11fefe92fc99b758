# Sourced: packages of another Debian release, from the mirror this machine is
# configured with, without touching its package state or installing anything.

kernel_cache=${XDG_CACHE_HOME:-$HOME/.cache}/guestram/kernels

# private_apt_open DIR SUITE: a package state of its own in DIR, for SUITE's main.
private_apt_open() {
    local dir=$1 suite=$2 release uri keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    release=$(. /etc/os-release && [ "$ID" = debian ] && echo "${VERSION_CODENAME-}") || {
        echo "this machine is not Debian: no Debian mirror is configured" >&2
        return 1
    }
    uri=$(apt-get indextargets --no-release-info --format '$(RELEASE) $(REPO_URI)' \
        'Created-By: Packages' | awk -v r="$release" '$1 == r || $1 == "stable" { print $2; exit }')
    if [ -z "$uri" ]; then
        echo "the sources of apt name no mirror for $release" >&2
        return 1
    fi

    mkdir -p "$dir/lists" "$dir/cache" "$dir/debs"
    : >"$dir/status"
    local options="target=Packages lang=none"
    [ ! -e "$keyring" ] || options+=" signed-by=$keyring"
    echo "deb [$options] $uri $suite main" >"$dir/sources.list"
    # The hooks that machines run after an update act on the machine's own state.
    cat >"$dir/apt.conf" <<CONF
Dir::Etc::SourceList "$dir/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State::Lists "$dir/lists";
Dir::State::status "$dir/status";
Dir::Cache "$dir/cache";
Acquire::http::Timeout "30";
Acquire::Retries "2";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
CONF
    # apt downloads as _apt when root calls it, and that user must reach DIR.
    if [ "$(id -u)" = 0 ]; then
        chmod 755 "$dir"
        chown -R _apt "$dir"
    fi
    private_apt_conf=$dir/apt.conf
    apt-get -c "$private_apt_conf" -qq --error-on=any update >&2
}

# private_apt_unpack DIR PACKAGE...: download and unpack into DIR/root.
private_apt_unpack() {
    local dir=$1 deb
    shift
    (cd "$dir/debs" && apt-get -c "$private_apt_conf" -qq download "$@" >&2) || return
    for deb in "$dir"/debs/*.deb; do
        dpkg-deb -x "$deb" "$dir/root" || return
        rm "$deb"
    done
}
