package layer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"slim/internal/flatten"
)

// attrs interns attributes over all layers of an image: few differ.
type attrs struct {
	mu    sync.Mutex
	ids   map[string]uint32
	byID  []*flatten.Attr
	bytes int
	// key is room for one key.
	key []byte
}

func newAttrs() *attrs { return &attrs{ids: map[string]uint32{}} }

// attrCost is about what one attribute takes beside its records.
const attrCost = 100

// intern returns the number of an attribute and the one pointer that stands for all
// that are equal to it.
func (a *attrs) intern(attr *flatten.Attr) (uint32, *flatten.Attr, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.key = appendAttr(a.key[:0], attr)
	if id, ok := a.ids[string(a.key)]; ok {
		return id, a.byID[id], nil
	}
	if a.bytes += attrCost + len(a.key); a.bytes > MaxRecordBytes {
		return 0, nil, fmt.Errorf("more than %d MiB of distinct owners, modes and extended attributes", MaxRecordBytes>>20)
	}
	id := uint32(len(a.byID))
	a.ids[string(a.key)], a.byID = id, append(a.byID, attr)
	return id, attr, nil
}

// all returns the attributes by their numbers, as many as there are now.
func (a *attrs) all() []*flatten.Attr {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.byID
}

// appendAttr encodes an attribute onto b; two attributes have the same bytes only if
// they are equal.
func appendAttr(b []byte, a *flatten.Attr) []byte {
	b = binary.AppendUvarint(b, uint64(a.Mode))
	for _, v := range []int64{a.UID, a.GID, a.DevMajor, a.DevMinor} {
		b = binary.AppendVarint(b, v)
	}
	b = binary.AppendUvarint(b, uint64(len(a.Records)))
	for _, r := range a.Records {
		b = appendString(appendString(b, r.Key), r.Value)
	}
	return b
}

var errAttr = errors.New("[internal error] attributes that no header has")

// attr reads what appendAttr wrote, and refuses what attrOf does not make.
func (d *fields) attr() *flatten.Attr {
	mode := d.uvarint()
	a := &flatten.Attr{Mode: uint32(mode), UID: d.varint(), GID: d.varint(), DevMajor: d.varint(), DevMinor: d.varint()}
	if mode > 0o7777 || !isDevice(a.DevMajor, a.DevMinor) {
		d.fail(errAttr)
	}
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		r := flatten.Record{Key: d.text(MaxRecordBytes), Value: d.text(MaxRecordBytes)}
		if last := len(a.Records) - 1; !isRecord(r.Key) || last >= 0 && a.Records[last].Key >= r.Key {
			d.fail(errAttr)
		}
		a.Records = append(a.Records, r)
	}
	return a
}
