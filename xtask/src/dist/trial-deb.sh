quietly() {
    inside env DEBIAN_FRONTEND=noninteractive "$@" >"$room/said" 2>&1 || {
        cat "$room/said" >&2
        exit 1
    }
}

is_version() {
    found=$(inside dpkg-query --showformat '${Version} ${Status}' --show hvsampler)
    [ "$found" = "$1 install ok installed" ] || {
        echo "dpkg says $found of version $1" >&2
        exit 1
    }
}

fails "the machine has no hvsampler of its own" test -e "$config"

quietly dpkg -i /first
is_version "$version"
is /usr/bin/hvsampler "755 root root"
is "$config" "600 root root"
is /usr/share/man/man8/hvsampler-run.8.gz "644 root root"
holds "the binary runs" sh -c '/usr/bin/hvsampler --version >/dev/null'
holds "each file is what was packaged" sh -c '[ -z "$(dpkg -V hvsampler)" ]'
holds "the service is enabled" test -L "$link"

# An upgrade keeps what the administrator did.
holds "the configuration is changed" sh -c "echo '# mine' >> $config"
quietly dpkg -i /next
is_version "$next_version"
holds "the configuration is kept" grep -qx '# mine' "$config"
is "$config" "600 root root"
holds "the service is enabled still" test -L "$link"
quietly systemctl disable hvsampler.service
quietly dpkg -i /first
fails "a service that was disabled stays so" test -L "$link"
quietly systemctl enable hvsampler.service

quietly dpkg -r hvsampler
fails "the binary is gone" test -e /usr/bin/hvsampler
fails "the unit is gone" test -e /usr/lib/systemd/system/hvsampler.service
holds "the configuration stays" grep -qx '# mine' "$config"

# What was removed comes back as it was.
quietly dpkg -i /first
holds "the configuration is the old one" grep -qx '# mine' "$config"
holds "the service is enabled again" test -L "$link"

holds "there is a setting of the failure unit" sh -c 'echo ON_FAILURE=: > /etc/hvsampler/failure.env'
quietly dpkg -P hvsampler
fails "the configuration is gone" test -e /etc/hvsampler
fails "the service is not enabled any more" test -L "$link"
fails "nothing is masked" test -e /etc/systemd/system/hvsampler.service
holds "nothing is left" sh -c '! find /etc /usr /var/lib/dpkg/info -name "*hvsampler*" | grep .'

# Keys that the administrator put there are not ours.
quietly dpkg -i /first
holds "there is a key" touch /etc/hvsampler/client.key
quietly dpkg -P hvsampler
holds "the key stays" test -e /etc/hvsampler/client.key

echo "all is as it should be"
