//! Sources that fill the model, one file each.
