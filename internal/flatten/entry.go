// Package flatten replays image layers into the final filesystem, prunes it and
// diffs it against a base.
//
// A layer is a changeset: entries that add or replace names, and markers that
// remove names of lower layers (whiteouts) or all lower children of a
// directory (opaque whiteouts). The rules are those of
// https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md.
//
// Every layer is first built into a tree of its own, where parents and hardlink
// targets are resolved inside that layer alone, as engines with an overlay
// filesystem do; that tree is then merged onto the tree of the layers below.
// Where the specification is silent or engines disagree, the overlay reading
// is taken and a [Warning] names the layer and the path.
//
// Trees are inodes: a name points to an [Inode], a hardlink is one more name of
// the same inode and is bound when its entry is read. Nothing here touches a
// filesystem, a clock or an environment.
package flatten

import (
	"cmp"
	"slices"
)

// Kind tells what an entry or an inode is.
type Kind uint8

// The kinds of entries. Inodes are never Hardlink, Whiteout, Opaque or
// Metadata.
const (
	File Kind = iota
	Dir
	Symlink
	CharDevice
	BlockDevice
	Fifo
	// Hardlink is a further name of an inode.
	Hardlink
	// Whiteout removes a name of the lower layers.
	Whiteout
	// Opaque removes every name of the lower layers in one directory.
	Opaque
	// Metadata is bookkeeping of the AUFS storage driver: never part of the
	// filesystem, but hardlinks may point into it.
	Metadata
)

var kindNames = [...]string{"file", "directory", "symlink", "character device", "block device", "fifo", "hardlink", "whiteout", "opaque whiteout", "AUFS metadata"}

// String returns the kind in words.
func (k Kind) String() string { return kindNames[k] }

// Record is one PAX record that is carried through, such as an extended
// attribute under its "SCHILY.xattr." key.
type Record struct{ Key, Value string }

// Attr holds what many inodes have in common, so that it can be shared: owners,
// permissions, device numbers and PAX records. It is never changed once made.
type Attr struct {
	// Mode holds the permission bits with setuid, setgid and sticky (07777).
	Mode               uint32
	UID, GID           int64
	DevMajor, DevMinor int64
	// Records are sorted by key, keys are unique.
	Records []Record
}

// impliedAttr is what a directory gets that no entry describes.
var impliedAttr = &Attr{Mode: 0o755}

// Equal reports whether two attributes are the same in every field.
func (a *Attr) Equal(b *Attr) bool {
	return a == b || a.Mode == b.Mode && a.sameOwner(b) && slices.Equal(a.Records, b.Records)
}

func (a *Attr) sameOwner(b *Attr) bool {
	return a.UID == b.UID && a.GID == b.GID && a.DevMajor == b.DevMajor && a.DevMinor == b.DevMinor
}

// withRecords returns a with the records of b laid over its own.
func (a *Attr) withRecords(b *Attr) *Attr {
	if len(b.Records) == 0 || slices.Equal(a.Records, b.Records) {
		return a
	}
	merged := slices.Clone(b.Records)
	for _, r := range a.Records {
		if _, ok := slices.BinarySearchFunc(b.Records, r, compareKeys); !ok {
			merged = append(merged, r)
		}
	}
	slices.SortFunc(merged, compareKeys)
	c := *a
	c.Records = merged
	return &c
}

func compareKeys(a, b Record) int { return cmp.Compare(a.Key, b.Key) }

// Sum is the SHA-256 of a file's content.
type Sum [32]byte

// NoBody is the offset of content that was read but not kept.
const NoBody = -1

// Entry is one header of a layer.
type Entry struct {
	// Path is the canonical name; for Whiteout the path that is removed, for
	// Opaque the directory. The root is the empty string.
	Path string
	Kind Kind
	Attr *Attr
	// Sec and Nsec are the modification time since the Unix epoch.
	Sec  int64
	Nsec int32
	// Ordinal counts the headers of the layer, from 0.
	Ordinal int32
	// Size is the length of the content in bytes; 0 for all but File.
	Size int64
	// Off is where the content lies in the spool of the layer, or NoBody.
	Off int64
	// Link is the target: of a Symlink as it is stored, of a Hardlink as a
	// canonical path.
	Link string
	// LinkAgain, where set, returns the Link of a Symlink once more, so that the
	// tree need not hold it. It must do so as long as the tree is used.
	LinkAgain func() (string, error)
	// Sum is set where content is known by its hash only (kept base layers).
	Sum *Sum
}
