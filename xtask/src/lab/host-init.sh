#!/bin/busybox sh
# Init of the machine whose kernel is tested. The build machine's root file system, read-only over
# 9p below a tmpfs, becomes the root of the command; results leave by the second serial port.

export PATH=/bin
/bin/busybox --install -s /bin

fault() {
	echo "lab fault: $*" > /dev/ttyS1
	poweroff -f
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
stty -F /dev/ttyS1 raw -echo 115200

while read -r module; do
	insmod "/modules/$module" || fault "module $module does not load"
done < /modules/order

mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,ro,cache=loose host /host || fault "no root over 9p"
mount -t tmpfs -o size=75% tmpfs /writable
mkdir /writable/upper /writable/work
mount -t overlay -o lowerdir=/host,upperdir=/writable/upper,workdir=/writable/work overlay /root ||
	fault "no overlay over 9p"

mount -t proc proc /root/proc
mount -t sysfs sysfs /root/sys
mount -t devtmpfs devtmpfs /root/dev
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts devpts /root/dev/pts
mount -t tmpfs tmpfs /root/dev/shm
mount -t tmpfs tmpfs /root/run
mount -t debugfs debugfs /root/sys/kernel/debug
mount -t tracefs tracefs /root/sys/kernel/tracing
mount -t bpf bpf /root/sys/fs/bpf
mount -t cgroup2 cgroup2 /root/sys/fs/cgroup
ifconfig lo 127.0.0.1 up
# For a test that reloads KVM.
mkdir /root/run/lab-modules
cp /modules/kvm*.ko /root/run/lab-modules
[ -e /dev/kvm ] || fault "no /dev/kvm"
cp /command /root/run/lab-command

if [ -d /systemd ]; then
	mkdir -p /root/run/systemd/system
	cp /systemd/* /root/run/systemd/system/
	# A build machine starts no services at an installation.
	rm -f /root/usr/sbin/policy-rc.d
	# Without one systemd takes the boot for the first one of a new system.
	[ -s /root/etc/machine-id ] || tr -d - < /proc/sys/kernel/random/uuid > /root/etc/machine-id
	exec switch_root /root /lib/systemd/systemd --unit=lab.target
fi

# xtask takes a console that falls silent for a machine that stands still.
while sleep 5; do
	read -r up _ < /proc/uptime
	echo "lab alive $up"
done &

# Not on the first CPU, which is the machine's third only for this: in QEMU a thread of any CPU that restores
# its floating-point state (cpu_set_fpus() calls cpu_clear_ignne()) reads, changes and writes flags of the
# first CPU without a lock, among which are the global interrupt flag and the nested paging of SVM. What VMRUN
# or VMEXIT did to them there at that moment is undone, an interrupt comes where none may, and a guest or the
# kernel goes on with the state of the other.
echo 'lab begins' > /dev/ttyS1
taskset -c 1,2 chroot /root /bin/sh /run/lab-command < /dev/null > /dev/ttyS1 2>&1
status=$?
# A command may end in the middle of a line.
printf '\nlab exit %s\n' "$status" > /dev/ttyS1
poweroff -f
