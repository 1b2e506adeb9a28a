# Makes a copy of the root file system that nothing is written back from, and what is asked of it.
# Arguments: the package, the one that is upgraded to, the versions of both, and an empty folder.
first=$1 next=$2 version=$3 next_version=$4 room=$5

mount --make-rprivate /
mount -t tmpfs none "$room"
mkdir "$room/upper" "$room/work" "$room/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$room/upper,workdir=$room/work" "$room/root"
mount -t proc proc "$room/root/proc"
# Empty: systemd does not run in there.
mount -t tmpfs none "$room/root/run"
cp "$first" "$room/root/first"
cp "$next" "$room/root/next"

inside() {
    chroot "$room/root" "$@"
}

# $1: what is to be so; the rest: a command inside that says so.
holds() {
    what=$1
    shift
    if ! inside "$@"; then
        echo "not so: $what" >&2
        exit 1
    fi
}

fails() {
    what=$1
    shift
    if inside "$@" 2>/dev/null; then
        echo "not so: $what" >&2
        exit 1
    fi
}

# $1: a path, $2: mode and owner.
is() {
    found=$(inside stat -c '%a %U %G' "$1")
    if [ "$found" != "$2" ]; then
        echo "$1 is $found, not $2" >&2
        exit 1
    fi
}

config=/etc/hvsampler/config.toml
link=/etc/systemd/system/multi-user.target.wants/hvsampler.service
