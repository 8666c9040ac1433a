package layer

// Bounds on what an image may hold, so that hostile input ends in an error and
// not in a full machine. Names, depth and lengths are bounded in package flatten.
const (
	// MaxInflated bounds the uncompressed bytes of one layer (64 GiB).
	MaxInflated = 64 << 30
	// MaxHoles bounds what the holes of sparse files in one layer expand to (4 GiB).
	MaxHoles = 4 << 30
	// MaxEntries bounds the headers of one layer.
	MaxEntries = 4_000_000
	// MaxRecordBytes bounds what the distinct owners, modes, extended attributes
	// and other PAX records of all layers take together.
	MaxRecordBytes = 32 << 20
	// maxDevice is the largest device number that a PAX archive can hold.
	maxDevice = 1<<21 - 1
	// smallWindow is the zstd window up to which layers are decoded in parallel,
	// maxWindow the largest that is decoded at all.
	smallWindow = 8 << 20
	maxWindow   = 128 << 20
)
