#!/bin/busybox sh
# Init of a guest inside the lab. Words of the kernel command line say what it does:
#   load=busy|half|halt|io   every vCPU burns, burns half the time, sleeps, reads /dev/vda
#   disk=BLOCKS              three seconds later writes so many blocks of 64 KiB to /dev/vda, has it flush,
#                            and reads them; GUESTDISK lines before and after are the guest's own count
#   net=on                   sends a packet out of eth0 twenty times a second
#   phases=busy:5,idle:2,... burns and sleeps for so many seconds, then powers off
#   stat=SECONDS             how often GUESTSTAT lines are printed under load= (1; 0 is never)
#   for=SECONDS              powers off after so long under load=
# GUESTSTAT lines are the guest's own count: uptime, then a cpuN line of /proc/stat in ticks.
# Under phases= they are printed one second into each idle phase, when every vCPU sleeps.

export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod "/modules/$module"; done < /modules/order

load='' phases='' stat=1 for='' net='' disk=''
read -r words < /proc/cmdline
for word in $words; do
	case $word in
		load=*) load=${word#*=} ;;
		phases=*) phases=${word#*=} ;;
		stat=*) stat=${word#*=} ;;
		for=*) for=${word#*=} ;;
		net=*) net=${word#*=} ;;
		disk=*) disk=${word#*=} ;;
	esac
done

# Nothing but builtins: a program started to measure would be part of the load.
print_stat() {
	read -r up _ < /proc/uptime
	while read -r name ticks; do
		case $name in cpu[0-9]*) echo "GUESTSTAT $up $name $ticks" ;; esac
	done < /proc/stat
}

centiseconds() {
	read -r up _ < /proc/uptime
	# A leading 1 keeps "08" from being octal.
	now=$((${up%.*} * 100 + 1${up#*.} - 100))
}

burn() {
	while :; do :; done
}

burn_half() {
	while :; do
		centiseconds
		end=$((now + 10))
		while [ "$now" -lt "$end" ]; do centiseconds; done
		sleep 0.1
	done
}

read_disk() {
	while dd if=/dev/vda of=/dev/null bs=64k iflag=direct 2> /dev/null; do :; done
	echo "guest: load=io needs a disk as /dev/vda"
}

children=''
on_each_cpu() {
	for cpu in /sys/devices/system/cpu/cpu[0-9]*; do
		"$1" &
		taskset -p "$(printf %x $((1 << ${cpu##*cpu})))" $! > /dev/null
		children="$children $!"
	done
}

stop_children() {
	for child in $children; do kill "$child"; wait "$child" 2> /dev/null; done
	children=''
}

run_phases() {
	for phase in $(echo "$phases" | tr , ' '); do
		seconds=${phase#*:}
		case $phase in
			busy:*)
				on_each_cpu burn
				sleep "$seconds"
				stop_children
				;;
			idle:*)
				sleep 1
				print_stat
				sleep $((seconds - 1))
				;;
			*) echo "guest: unknown phase $phase" ;;
		esac
	done
}

run_load() {
	case $load in
		busy) on_each_cpu burn ;;
		half) on_each_cpu burn_half ;;
		io) on_each_cpu read_disk ;;
		halt | '') ;;
		*) echo "guest: unknown load $load" ;;
	esac
	# Nothing to print and no end: as quiet as a guest can be.
	[ "$stat" = 0 ] && [ -z "$for" ] && while :; do sleep 86400; done
	elapsed=0
	while [ -z "$for" ] || [ "$elapsed" -lt "$for" ]; do
		sleep 1
		elapsed=$((elapsed + 1))
		[ "$stat" -gt 0 ] && [ $((elapsed % stat)) = 0 ] && print_stat
	done
	stop_children
	print_stat
}

use_disk() {
	sleep 3
	read -r counts < /sys/block/vda/stat
	echo "GUESTDISK $counts"
	dd if=/dev/zero of=/dev/vda bs=64k count="$disk" oflag=direct conv=fsync 2> /dev/null
	dd if=/dev/vda of=/dev/null bs=64k count="$disk" iflag=direct 2> /dev/null
	read -r counts < /sys/block/vda/stat
	echo "GUESTDISK $counts"
}

# To everybody, so that nobody has to answer first.
send_packets() {
	ifconfig eth0 10.0.0.1 netmask 255.255.255.0 up
	ping -q -i 0.05 10.0.0.255 > /dev/null
	echo "guest: net=on needs eth0"
}

[ -n "$net" ] && send_packets &
echo "GUEST ready $(nproc) vCPUs"
[ -n "$disk" ] && use_disk &
if [ -n "$phases" ]; then run_phases; else run_load; fi
echo "GUEST done"
poweroff -f
