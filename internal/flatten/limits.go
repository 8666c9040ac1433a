package flatten

// Bounds on what the layers of an image may name, so that a hostile image cannot
// fill the memory.
const (
	// MaxNames bounds the names that all layers may create.
	MaxNames = 3_000_000
	// MaxText bounds the bytes of these names and of the symlinks' targets (64 MiB);
	// what has no name of its own, such as attributes that a hardlink changes, counts
	// as it takes memory.
	MaxText = 64 << 20
	// MaxPath and MaxName are what Linux itself can hold (PATH_MAX, NAME_MAX),
	// MaxDepth is a depth that no real tree comes near.
	MaxPath  = 4096
	MaxName  = 255
	MaxDepth = 1024
)
