//! The rows by which types say what is kept of them.

/// Makes a type one that is kept:
///
/// - `kept! { Totals { run_ns, run_delay_ns } }`: all fields, in this order. A row that lacks one does not
///   compile.
/// - `kept! { OnCpu { last, total } anew { step, times = 1 } }`: the fields after `anew` are not kept, and
///   begin with this value, or with their default.
/// - `kept! { <A> Thread { slot, account } }`: whatever is kept may be in it.
/// - `kept! { BlockedTimes(times in BLOCKED) }`: a type with one field that has no name.
/// - `in BLOCKED`: the field is an array by this table, whose keys are part of the shape.
/// - `kept! { enum Since { 0 = FirstReading, 1 = Creation { is_first_step: bool } } }`: by a number of each
///   variant.
/// - `kept! { labels AttachedKind in ATTACHED_KINDS }`: by the place in the table.
macro_rules! kept {
    (@anew) => { Default::default() };
    (@anew $default:expr) => { $default };

    (enum $type:ident {
        $($code:literal = $variant:ident $({ $($field:ident: $of:ty),* $(,)? })?),* $(,)?
    }) => {
        impl $crate::kept::Keep for $type {
            const SHAPE: u64 = {
                let shape = $crate::kept::Shape::of(stringify!($type));
                $(
                    let shape = shape.name(stringify!($variant)).number($code);
                    $($(
                        let shape = shape.name(stringify!($field));
                        let shape = shape.number(<$of as $crate::kept::Keep>::SHAPE);
                    )*)?
                )*
                shape.end()
            };

            fn put(&self, to: &mut $crate::kept::Writer<'_>) {
                match self {
                    $(Self::$variant $({ $($field),* })? => {
                        to.bytes(&[$code]);
                        $($(<$of as $crate::kept::Keep>::put($field, to);)*)?
                    })*
                }
            }

            fn take(from: &mut $crate::kept::Reader<'_>) -> Option<Self> {
                match <u8 as $crate::kept::Keep>::take(from)? {
                    $($code => Some(Self::$variant $({
                        $($field: <$of as $crate::kept::Keep>::take(from)?),*
                    })?),)*
                    _ => None,
                }
            }
        }
    };

    (labels $type:ident in $table:ident) => {
        impl $crate::kept::Keep for $type {
            const SHAPE: u64 = {
                assert!($table.len() <= 1 << u8::BITS, "a byte for the place");
                let shape = $crate::kept::Shape::of(stringify!($type));
                $crate::kept::keys!(shape, $table).end()
            };

            fn put(&self, to: &mut $crate::kept::Writer<'_>) {
                to.bytes(&[*self as u8]);
            }

            fn take(from: &mut $crate::kept::Reader<'_>) -> Option<Self> {
                Self::of(usize::from(<u8 as $crate::kept::Keep>::take(from)?))
            }
        }
    };

    ($type:ident ($inner:ident $(in $table:ident)*)) => {
        impl $crate::kept::Keep for $type {
            const SHAPE: u64 = {
                let shape = $crate::kept::Shape::of(stringify!($type));
                let shape = shape.number($crate::kept::of_field(|whole: &Self| &whole.0));
                $(let shape = $crate::kept::keys!(shape, $table);)*
                shape.end()
            };

            fn put(&self, to: &mut $crate::kept::Writer<'_>) {
                let Self($inner) = self;
                $crate::kept::Keep::put($inner, to);
            }

            fn take(from: &mut $crate::kept::Reader<'_>) -> Option<Self> {
                Some(Self($crate::kept::Keep::take(from)?))
            }
        }
    };

    ($(<$($param:ident),*>)? $type:ident {
        $($field:ident $(in $table:ident)*),* $(,)?
    } $(anew { $($anew:ident $(= $default:expr)?),* $(,)? })?) => {
        impl$(<$($param: $crate::kept::Keep),*>)? $crate::kept::Keep for $type$(<$($param),*>)? {
            const SHAPE: u64 = {
                let shape = $crate::kept::Shape::of(stringify!($type));
                $(
                    let shape = shape.name(stringify!($field));
                    let shape = shape.number($crate::kept::of_field(|whole: &Self| &whole.$field));
                    $(let shape = $crate::kept::keys!(shape, $table);)*
                )*
                shape.end()
            };

            fn put(&self, to: &mut $crate::kept::Writer<'_>) {
                let Self { $($field,)* $($($anew: _,)*)? } = self;
                $($crate::kept::Keep::put($field, to);)*
            }

            fn take(from: &mut $crate::kept::Reader<'_>) -> Option<Self> {
                Some(Self {
                    $($field: $crate::kept::Keep::take(from)?,)*
                    $($($anew: $crate::kept::kept!(@anew $($default)?),)*)?
                })
            }
        }
    };
}

/// A shape with the keys of a table, in their order.
macro_rules! keys {
    ($shape:ident, $table:ident) => {{
        let (mut shape, mut place) = ($shape.number($table.len() as u64), 0);
        while place < $table.len() {
            shape = shape.name($table[place].key);
            place += 1;
        }
        shape
    }};
}

pub(crate) use {kept, keys};
