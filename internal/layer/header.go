package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"slices"
	"strings"

	"slim/internal/flatten"
)

// entryKinds maps the types of tar headers. GNU sparse files come expanded, and
// type '7' is a regular file by POSIX.
var entryKinds = map[byte]flatten.Kind{
	tar.TypeReg: flatten.File, '\x00': flatten.File, tar.TypeGNUSparse: flatten.File, tar.TypeCont: flatten.File,
	tar.TypeDir: flatten.Dir, tar.TypeSymlink: flatten.Symlink, tar.TypeLink: flatten.Hardlink,
	tar.TypeChar: flatten.CharDevice, tar.TypeBlock: flatten.BlockDevice, tar.TypeFifo: flatten.Fifo,
}

// entryOf turns a tar header into an entry. ok is false for headers that are no
// part of the filesystem: PAX global headers, directories of AUFS metadata.
func entryOf(h *tar.Header) (e flatten.Entry, ok bool, err error) {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return e, false, nil
	}
	kind, known := entryKinds[h.Typeflag]
	e.Path = h.Name
	if e.Path, err = flatten.CleanPath(h.Name); err != nil {
		e.Path = h.Name
		return e, false, err
	}
	var marker flatten.Kind
	clean := e.Path
	if e.Path, marker, err = flatten.Classify(clean); err != nil {
		e.Path = clean
		return e, false, err
	}
	e.Off = flatten.NoBody
	switch {
	case marker == flatten.Whiteout || marker == flatten.Opaque:
		e.Kind = marker
		return e, true, nil
	case marker == flatten.Metadata && (!known || kind != flatten.File):
		return e, false, nil
	case !known:
		return e, false, fmt.Errorf("entry of the unknown type %q", h.Typeflag)
	}
	e.Kind = kind
	if kind == flatten.File {
		e.Size = h.Size
	}
	if marker == flatten.Metadata {
		e.Kind = flatten.Metadata
	}
	e.Sec, e.Nsec = h.ModTime.Unix(), int32(h.ModTime.Nanosecond())
	if e.Link, err = linkOf(h, kind); err != nil {
		return e, false, err
	}
	e.Attr, err = attrOf(h, kind)
	return e, err == nil, err
}

func linkOf(h *tar.Header, kind flatten.Kind) (string, error) {
	switch kind {
	case flatten.Hardlink:
		target, err := flatten.CleanPath(h.Linkname)
		if err != nil {
			return "", fmt.Errorf("hardlink target %q: %w", h.Linkname, err)
		}
		return target, nil
	case flatten.Symlink:
		switch {
		case h.Linkname == "":
			return "", errors.New("symlink without a target")
		case len(h.Linkname) >= flatten.MaxPath:
			return "", fmt.Errorf("symlink target of %d bytes is longer than %d", len(h.Linkname), flatten.MaxPath-1)
		case strings.IndexByte(h.Linkname, 0) >= 0:
			return "", errors.New("symlink target holds a NUL byte")
		}
		return h.Linkname, nil
	}
	return "", nil
}

func attrOf(h *tar.Header, kind flatten.Kind) (*flatten.Attr, error) {
	attr := &flatten.Attr{Mode: uint32(h.Mode & 0o7777), UID: int64(h.Uid), GID: int64(h.Gid)}
	if kind == flatten.CharDevice || kind == flatten.BlockDevice {
		attr.DevMajor, attr.DevMinor = h.Devmajor, h.Devminor
		if !isDevice(attr.DevMajor, attr.DevMinor) {
			return nil, fmt.Errorf("device number %d:%d is out of range", attr.DevMajor, attr.DevMinor)
		}
	}
	attr.Records = recordsOf(h)
	return attr, nil
}

func isDevice(major, minor int64) bool {
	return min(major, minor) >= 0 && max(major, minor) <= maxDevice
}

// recordsOf returns the PAX records that are not header fields.
func recordsOf(h *tar.Header) []flatten.Record {
	var records []flatten.Record
	for k, v := range h.PAXRecords {
		if isRecord(k) {
			records = append(records, flatten.Record{Key: k, Value: v})
		}
	}
	slices.SortFunc(records, func(x, y flatten.Record) int { return strings.Compare(x.Key, y.Key) })
	return records
}

func isRecord(key string) bool {
	return !fieldRecords[key] && !strings.HasPrefix(key, "GNU.sparse.") && flatten.KeepRecord(key)
}

// fieldRecords are PAX records that the tar header's own fields hold.
var fieldRecords = map[string]bool{
	"path": true, "linkpath": true, "size": true, "uid": true, "gid": true, "uname": true, "gname": true,
	"mtime": true, "atime": true, "ctime": true,
}
