# Runs the image in namespaces of its own, and asks what it shows of the host, which has another name and id.
# Arguments: the image's archive, a VMM, and an empty folder.
package=$1 vmm=$2 room=$3
name=node-of-the-trial
id=0123456789abcdef0123456789abcdef

fail() {
    echo "not so: $1" >&2
    exit 1
}

# Unpacked as a runtime does: by the index, the manifest, and the layers in their order.
blob() {
    echo "$room/image/blobs/sha256/${1#sha256:}"
}
digests() {
    grep -o '"digest":"sha256:[0-9a-f]*"' "$1" | cut -d'"' -f4
}
mkdir "$room/image" "$room/container"
tar --extract --file "$package" --directory "$room/image"
for path in "$room"/image/blobs/sha256/*; do
    [ "$(sha256sum <"$path" | cut -d' ' -f1)" = "${path##*/}" ] || fail "$path is what its name says"
done
manifest=$(blob "$(digests "$room/image/index.json")")
for layer in $(grep -o '"layers":.*' "$manifest" >"$room/layers" && digests "$room/layers"); do
    tar --extract --gzip --file "$(blob "$layer")" --directory "$room/container"
done

# The host: this machine's file system, with a name and an id of its own.
mount --make-rprivate /
mount -t tmpfs none "$room/container/run"
mkdir "$room/container/run/above" "$room/container/run/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$room/container/run/above,workdir=$room/container/run/work" \
    "$room/container/host"
echo "$name" >"$room/container/host/etc/hostname"
echo "$id" >"$room/container/host/etc/machine-id"
for folder in proc sys; do
    mount --rbind "/$folder" "$room/container/host/$folder"
    mount --rbind "/$folder" "$room/container/$folder"
done
hostname the-container

"$vmm" --vcpus 2 --load half --name guest=of-the-host >"$room/vmm" &
guest=$!
trap 'kill $guest' EXIT
for _ in $(seq 100); do
    grep -q ready "$room/vmm" && break
    sleep 0.1
done

sampler() {
    chroot "$room/container" /usr/bin/hvsampler --root /host "$@"
}

sampler once --format json >"$room/once" || fail "it samples"
for said in '"hypervisor.vm.name":"of-the-host"' "\"$name\"" "\"$id\""; do
    grep -qF "$said" "$room/once" || fail "$said is in $(cat "$room/once")"
done
sampler list --format json | grep -q '"of-the-host"' || fail "the host's guest is listed"
sampler check >"$room/check" || fail "it can work: $(cat "$room/check")"

if chroot "$room/container" /usr/bin/hvsampler --root /run check 2>"$room/said"; then
    fail "/run is the root of no host"
fi
grep -q "mount the host's root" "$room/said" || fail "it says what to do: $(cat "$room/said")"

# The service: as another user, to a receiver that is not there, by its name.
echo "127.0.0.9 collector" >"$room/container/etc/hosts"
cat >"$room/container/etc/hvsampler/config.toml" <<CONFIG
interval = "1s"
start_delay = "0s"
[service]
user = "65532"
[export]
endpoint = "http://collector:9"
CONFIG
chroot "$room/container" /usr/bin/hvsampler --root /host run >"$room/out" 2>"$room/log" &
service=$!
trap 'kill $guest $service' EXIT
for _ in $(seq 300); do
    grep -q "guest appeared" "$room/log" && grep -qi "connection refused" "$room/log" && break
    sleep 0.1
done
grep -q "guest appeared" "$room/log" || fail "the service sees the guest: $(cat "$room/log")"
grep -qi "connection refused" "$room/log" || fail "it finds the receiver by its name: $(cat "$room/log")"
grep -q "^Uid:.65532" "/proc/$service/status" || fail "it is another user: $(cat "/proc/$service/status")"
sampler status | grep -q "1 guest with 2 vCPUs" || fail "it answers: $(sampler status 2>&1)"
kill "$service"
wait "$service" || fail "it ends well: $(cat "$room/log")"
trap 'kill $guest' EXIT

echo "all is as it should be"
