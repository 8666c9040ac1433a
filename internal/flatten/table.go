package flatten

import (
	"errors"
	"strings"
)

// tableBlock is how many elements of a table lie together.
const tableBlock = 1024

// table is an array that grows. Its elements never move: pointers to them stay good,
// and growing copies nothing.
type table[T any] struct {
	blocks []*[tableBlock]T
	n      uint32
}

// add appends an element and returns its number.
func (t *table[T]) add(v T) uint32 {
	i := t.n
	if i%tableBlock == 0 {
		t.blocks = append(t.blocks, new([tableBlock]T))
	}
	t.n++
	*t.at(i) = v
	return i
}

func (t *table[T]) at(i uint32) *T { return &t.blocks[i/tableBlock][i%tableBlock] }

// text tells where a string begins in texts; 0 is the empty string.
type text uint32

// textBlock is a power of two, and the most bytes of a string with its length.
const textBlock = 1 << 16

// texts holds strings in blocks, each after its length in one byte or two.
type texts struct{ blocks []*strings.Builder }

var errText = errors.New("[internal error] string too long for a tree")

func (t *texts) add(s string) (text, error) {
	if len(s) == 0 {
		return 0, nil
	}
	if len(s) >= 1<<14 {
		return 0, errText
	}
	last := len(t.blocks) - 1
	if last < 0 || t.blocks[last].Len()+2+len(s) > textBlock {
		if last++; last == 1<<16 {
			return 0, errText
		}
		b := &strings.Builder{}
		b.Grow(textBlock)
		if last == 0 {
			b.WriteByte(0)
		}
		t.blocks = append(t.blocks, b)
	}
	b := t.blocks[last]
	at := text(last*textBlock + b.Len())
	if len(s) >= 0x80 {
		b.WriteByte(byte(len(s)) | 0x80)
		b.WriteByte(byte(len(s) >> 7))
	} else {
		b.WriteByte(byte(len(s)))
	}
	b.WriteString(s)
	return at, nil
}

// at returns the string without copying it.
func (t *texts) at(x text) string {
	if x == 0 {
		return ""
	}
	s := t.blocks[x/textBlock].String()[x%textBlock:]
	n := int(s[0])
	if n < 0x80 {
		return s[1 : 1+n]
	}
	n = n&0x7f | int(s[1])<<7
	return s[2 : 2+n]
}

// numbers is a set of nodes.
type numbers []uint64

func (s *numbers) add(n number) {
	if w := int(n / 64); w >= len(*s) {
		*s = append(*s, make([]uint64, w+1-len(*s))...)
	}
	(*s)[n/64] |= 1 << (n % 64)
}

func (s numbers) has(n number) bool {
	return int(n/64) < len(s) && s[n/64]&(1<<(n%64)) != 0
}

// column holds a value for some nodes, and the zero value for all others.
type column[T any] []T

func (c column[T]) get(n number) (v T) {
	if int(n) < len(c) {
		v = c[n]
	}
	return v
}

// at returns the place of a node's value, good until the next call.
func (c *column[T]) at(n number) *T {
	if more := int(n) + 1 - len(*c); more > 0 {
		*c = append(*c, make([]T, more)...)
	}
	return &(*c)[n]
}

// attrTable numbers attributes; 0 is impliedAttr.
type attrTable struct {
	all     []*Attr
	numbers map[*Attr]uint32
}

func newAttrTable() attrTable {
	return attrTable{all: []*Attr{impliedAttr}, numbers: map[*Attr]uint32{impliedAttr: 0}}
}

func (t *attrTable) at(n uint32) *Attr { return t.all[n] }

func (t *attrTable) number(a *Attr) uint32 {
	n, ok := t.numbers[a]
	if !ok {
		n = uint32(len(t.all))
		t.all, t.numbers[a] = append(t.all, a), n
	}
	return n
}
