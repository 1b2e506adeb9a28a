//! What the programs read of requests, and of the control groups that they are charged to.

/// The rows, for [`crate::abi::Member`]: hands those before and these to `$then`, with the tables that
/// follow. None is needed by all: a kernel without one of them has no disks of guests.
macro_rules! block_members {
    ($then:ident [$($tables:ident)*] $($before:tt)*) => {
        $then! {
            [$($tables)*] $($before)*
            /// Operation of a request in its low byte, and flags.
            RequestOperation = "request"."cmd_flags", &[4], false;
            /// `RQF_` flags of a request.
            RequestFlags = "request"."rq_flags", &[4], false;
            /// Bytes of a request that have not been completed.
            RequestLength = "request"."__data_len", &[4], false;
            /// First bio of a request that has not been completed; NULL of requests of the block layer's own.
            RequestBio = "request"."bio", &[8], false;
            /// `CLOCK_MONOTONIC` when a request was made, ns; 0 where the queue keeps no statistics. From 6.9
            /// on the clock may have been read earlier, for the first of a batch of requests.
            RequestStart = "request"."start_time_ns", &[8], false;
            /// The same when the driver was given the request; 0 where nothing on the host wants to know.
            RequestIssued = "request"."io_start_time_ns", &[8], false;
            /// Queue of a request.
            RequestQueue = "request"."q", &[8], false;
            /// Disk of a request. Up to 5.16.
            RequestDisk = "request"."rq_disk", &[8], false;
            /// Disk of a queue. 5.15 and later.
            QueueDisk = "request_queue"."disk", &[8], false;
            /// Major number of a disk, an int.
            DiskMajor = "gendisk"."major", &[4], false;
            /// Minor number of a disk itself, and not of a partition, an int.
            DiskMinor = "gendisk"."first_minor", &[4], false;
            /// Where the data of a bio is; NULL of one without data.
            BioVectors = "bio"."bi_io_vec", &[8], false;
            /// The control group that a bio is charged to, on its disk. Needs `CONFIG_BLK_CGROUP`.
            BioGroup = "bio"."bi_blkg", &[8], false;
            /// The same on all disks.
            GroupBlkcg = "blkcg_gq"."blkcg", &[8], false;
            /// Its number in the io controller, an int: the lowest that was free.
            BlkcgId = "blkcg"."css.id", &[4], false;
            /// Its number among those of all controllers, which no other will ever have.
            BlkcgSerial = "blkcg"."css.serial_nr", &[8], false;
            /// The control groups of a thread.
            TaskCgroups = "task_struct"."cgroups", &[8], false;
            /// That of the io controller.
            CgroupsIo = "css_set"."subsys[io_cgrp_id]", &[8], false;
            /// As [`Self::BlkcgId`], of a thread's.
            CssId = "cgroup_subsys_state"."id", &[4], false;
            /// As [`Self::BlkcgSerial`], of a thread's.
            CssSerial = "cgroup_subsys_state"."serial_nr", &[8], false;
            /// The control group itself.
            CssCgroup = "cgroup_subsys_state"."cgroup", &[8], false;
            /// Its node in the file system.
            CgroupNode = "cgroup"."kn", &[8], false;
            /// Number of that node: the inode's.
            NodeId = "kernfs_node"."id", &[8], false;
        }
    };
}

pub(in crate::abi) use block_members;
