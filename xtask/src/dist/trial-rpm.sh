# The libraries are Debian's, of which rpm knows nothing.
quietly() {
    inside "$@" >"$room/said" 2>&1 || {
        cat "$room/said" >&2
        exit 1
    }
}

is_version() {
    found=$(inside rpm -q hvsampler)
    [ "$found" = "hvsampler-$1-1.x86_64" ] || {
        echo "rpm says $found of version $1" >&2
        exit 1
    }
}

fails "the machine has no hvsampler of its own" test -e "$config"

quietly rpm --install --nodeps /first
is_version "$version"
is /usr/bin/hvsampler "755 root root"
is "$config" "600 root root"
holds "the binary runs" sh -c '/usr/bin/hvsampler --version >/dev/null'
holds "each file is what was packaged" rpm --verify --nodeps hvsampler

holds "the configuration is changed" sh -c "echo '# mine' >> $config"
quietly rpm --upgrade --nodeps /next
is_version "$next_version"
holds "the configuration is kept" grep -qx '# mine' "$config"

quietly rpm --erase hvsampler
fails "the binary is gone" test -e /usr/bin/hvsampler
fails "the unit is gone" test -e /usr/lib/systemd/system/hvsampler.service
fails "the service is not enabled any more" test -L "$link"
holds "the changed configuration is kept aside" grep -qx '# mine' "$config.rpmsave"

echo "all is as it should be"
