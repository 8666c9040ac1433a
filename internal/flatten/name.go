package flatten

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Marker names of https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md#whiteouts.
const (
	WhiteoutPrefix = ".wh."
	// OpaqueMarker is the base name of an opaque whiteout.
	OpaqueMarker = ".wh..wh..opq"
)

// aufsNames are what AUFS keeps for itself in the root.
var aufsNames = []string{".wh..wh.aufs", ".wh..wh.orph", ".wh..wh.plnk"}

// CleanPath returns the canonical form of a name in a layer: relative, without
// "." and ".." components, the root as "". A name that leads out of the root,
// holds a NUL byte or is longer than Linux allows is an error.
func CleanPath(name string) (string, error) {
	rel := strings.TrimLeft(name, "/")
	if strings.IndexByte(rel, 0) >= 0 {
		return "", errors.New("name holds a NUL byte")
	}
	if !canonical(rel) {
		rel = path.Clean(rel)
	}
	if rel == "." {
		return "", nil
	}
	if rel == ".." || strings.HasPrefix(rel, "../") {
		return "", errors.New("name leads out of the root")
	}
	return rel, checkLength(rel)
}

// canonical is a quick test for names that path.Clean would not change.
func canonical(rel string) bool {
	return rel != "" && rel[0] != '.' && rel[len(rel)-1] != '/' &&
		!strings.Contains(rel, "//") && !strings.Contains(rel, "/.")
}

func checkLength(rel string) error {
	if len(rel) > MaxPath {
		return fmt.Errorf("path of %d bytes is longer than %d", len(rel), MaxPath)
	}
	if depth := strings.Count(rel, "/") + 1; depth > MaxDepth {
		return fmt.Errorf("path of %d components is deeper than %d", depth, MaxDepth)
	}
	for c := range strings.SplitSeq(rel, "/") {
		if len(c) > MaxName+len(WhiteoutPrefix) || len(c) > MaxName && !strings.HasPrefix(c, WhiteoutPrefix) {
			return fmt.Errorf("name of %d bytes is longer than %d", len(c), MaxName)
		}
	}
	return nil
}

// Classify tells whether a canonical path is a marker and returns what it acts
// on: (path, Whiteout), (directory, Opaque), (path, Metadata); any other path
// comes back as it is with File, whatever its header says. Engines go by the
// name alone, so the type and content of a marker do not matter.
//
// A marker without a name, or one that names "." or "..", is an error (image-spec
// pull request 1314: two engines delete the extraction root on it), and so is a
// marker in the middle of a path.
func Classify(p string) (target string, kind Kind, err error) {
	if !strings.Contains(p, WhiteoutPrefix) {
		return p, File, nil
	}
	dir, base := path.Split(p)
	if root, _, _ := strings.Cut(p, "/"); slices.Contains(aufsNames, root) {
		return p, Metadata, nil
	}
	for c := range strings.SplitSeq(strings.TrimSuffix(dir, "/"), "/") {
		if strings.HasPrefix(c, WhiteoutPrefix) {
			return "", 0, errors.New("whiteout marker in the middle of a path")
		}
	}
	if base == OpaqueMarker {
		return strings.TrimSuffix(dir, "/"), Opaque, nil
	}
	name, marked := strings.CutPrefix(base, WhiteoutPrefix)
	if !marked {
		return p, File, nil
	}
	if name == "" || name == "." || name == ".." {
		return "", 0, errors.New("whiteout marker without a name")
	}
	return dir + name, Whiteout, nil
}

// isXattr cuts the extended attribute name out of a PAX record key.
func isXattr(key string) (string, bool) { return strings.CutPrefix(key, "SCHILY.xattr.") }

// KeepRecord reports whether a PAX record belongs to the filesystem. Attributes
// of the overlay filesystem itself do not: a layer that carries them would hide
// names in some engines (moby, containers/storage) and is refused by others.
func KeepRecord(key string) bool {
	name, ok := isXattr(key)
	return !ok || !strings.HasPrefix(name, "trusted.overlay.") && !strings.HasPrefix(name, "user.overlay.")
}
