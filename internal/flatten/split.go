package flatten

import (
	"cmp"
	"fmt"
	"iter"
	"math/bits"
	"slices"
)

// MaxLayers bounds the layers of an image, kept ones included: moby chains at most
// 125 (maxLayerDepth), as overlay takes 127 with those of the container.
const MaxLayers = 120

// MinLayerSize is the least limit in bytes to offer for a layer. Split takes less,
// but then the parents, which every part repeats, would take most of it.
const MinLayerSize = 1_000_000

// SplitOptions tells how a changeset is split.
type SplitOptions struct {
	// Max is the most bytes of a part, 0 for no limit. Only an entry or a link
	// group that alone takes more makes a part beyond it.
	Max int64
	// MaxParts bounds the parts; 0, or more than that, for [MaxLayers].
	MaxParts int
	// Size returns the bytes that an item takes in a layer, Trailer is what every
	// layer takes beside them.
	Size    func(Item) int64
	Trailer int64
}

// PartsError is a limit that would give too many parts.
type PartsError struct {
	// Parts is how many parts Max bytes would give, of at most MaxParts.
	Parts, MaxParts int
	// Max is the limit that was asked for, Fits one in whole MiB that gives few
	// enough parts, both in bytes.
	Max, Fits int64
}

// Error names both limits.
func (e *PartsError) Error() string {
	return fmt.Sprintf("at most %d bytes in a layer would make %d layers, more than %d; %d bytes would fit", e.Max, e.Parts, e.MaxParts, e.Fits)
}

// Part is one of the layers that a changeset is split into.
type Part struct {
	c *Changeset
	// only holds, for directories that several parts share, the names of this one;
	// any other directory is in one part with all below.
	only map[number][]string
}

// Items yields the headers of the part, in the order of [Changeset.Items]. A part
// is a layer in itself: it repeats the directories that lead to what is in it, the
// root too where the changeset has it.
func (p Part) Items() iter.Seq[Item] {
	return func(yield func(Item) bool) { p.c.walk(p.only, yield) }
}

// Split returns the parts of the changeset, lowest layer first: applied in their
// order they give what the changeset gives. Every marker and every name that is no
// directory is in one part, a link group is in one as a whole. Warnings, of the
// layer -1, name what takes more than the limit alone and has its own part. The
// error is a *[PartsError].
//
// A changeset within the limit is one part, the same as the changeset. Cuts depend
// on paths and sizes alone. It takes O(n log n) time, and until it returns about
// 40 bytes for every item; parts keep names of the directories that they share.
func (c *Changeset) Split(o SplitOptions) ([]Part, []Warning, error) {
	whole := []Part{{c: c}}
	if o.Max == 0 {
		return whole, nil, nil
	}
	if o.MaxParts <= 0 || o.MaxParts > MaxLayers {
		o.MaxParts = MaxLayers
	}
	s := readSplitter(c, o)
	total := s.weigh(s.units)
	if total <= o.Max {
		return whole, nil, nil
	}
	groups, big := s.partition(o.Max)
	if len(groups) > o.MaxParts {
		return nil, nil, &PartsError{Parts: len(groups), MaxParts: o.MaxParts, Max: o.Max, Fits: s.fitting(total)}
	}
	a := s.assign(groups)
	parts, warnings := a.parts(c, len(groups), big)
	return parts, warnings, nil
}

// fitting returns a limit above the one asked for that gives few enough parts.
func (s *splitter) fitting(total int64) int64 {
	limit := max(s.o.Max, total/int64(s.o.MaxParts))
	for {
		limit = (limit + limit/8 + 1<<20) &^ (1<<20 - 1)
		if limit >= total {
			return limit
		}
		if groups, _ := s.partition(limit); len(groups) <= s.o.MaxParts {
			return limit
		}
	}
}

// partition divides the units into groups, each a part, in the order of their
// first items; big are the units that alone take more than the limit.
func (s *splitter) partition(limit int64) (groups [][]int32, big map[int32]int64) {
	big = map[int32]int64{}
	var rest []int32
	for i, u := range s.units {
		if w := s.alone(s.units[i : i+1]); w > limit {
			big[u] = w
			groups = append(groups, s.units[i:i+1])
		} else {
			rest = append(rest, u)
		}
	}
	if len(rest) > 0 {
		s.cut(rest, limit, func(g []int32) { groups = append(groups, g) })
	}
	slices.SortFunc(groups, func(a, b []int32) int { return cmp.Compare(a[0], b[0]) })
	return groups, big
}

// assignment tells where everything is.
type assignment struct {
	*splitter
	// part holds the part of every item that is no directory, sets the parts of
	// every directory.
	part []uint8
	sets []partSet
}

type partSet [(MaxLayers + 63) / 64]uint64

func (s *partSet) add(n uint8)      { s[n/64] |= 1 << (n % 64) }
func (s *partSet) has(n uint8) bool { return s[n/64]&(1<<(n%64)) != 0 }

// all yields the parts of a set.
func (s partSet) all(yield func(uint8) bool) {
	for w, word := range s {
		for ; word != 0; word &= word - 1 {
			if !yield(uint8(64*w + bits.TrailingZeros64(word))) {
				return
			}
		}
	}
}

func (s partSet) many() bool {
	n := 0
	for _, word := range s {
		n += bits.OnesCount64(word)
	}
	return n > 1
}

func (s *splitter) assign(groups [][]int32) assignment {
	a := assignment{splitter: s, part: make([]uint8, len(s.items)), sets: make([]partSet, len(s.dirs))}
	for n, g := range groups {
		for i := range s.names(g) {
			a.part[i] = uint8(n)
			for d := s.items[i].dir; d >= 0 && !a.sets[d].has(uint8(n)); d = s.dirs[d].parent {
				a.sets[d].add(uint8(n))
			}
		}
	}
	return a
}

// parts walks the changeset once more and makes n parts of it, with warnings of
// the items that are beyond the limit.
func (a *assignment) parts(c *Changeset, n int, big map[int32]int64) (parts []Part, warnings []Warning) {
	for range n {
		parts = append(parts, Part{c: c, only: map[number][]string{}})
	}
	i := int32(0)
	for it := range c.Items() {
		if size, ok := big[i]; ok {
			text := fmt.Sprintf("takes a layer of %d bytes for itself, more than the limit of %d", size, a.o.Max)
			warnings = append(warnings, Warning{Layer: -1, Path: it.Path, Text: text})
		}
		if it.Path != "" {
			a.share(parts, c.final.number, it, a.items[i].dir, a.part[i])
		}
		i++
	}
	return parts, warnings
}

// share notes the name of an item in its parts, if its directory is in several.
func (a *assignment) share(parts []Part, root number, it Item, dir int32, part uint8) {
	in := partSet{}
	in.add(part)
	if it.Kind == Dir {
		in, dir = a.sets[dir], a.dirs[dir].parent
	}
	if dir >= 0 {
		if !a.sets[dir].many() {
			return
		}
		root = a.dirs[dir].number
	}
	for n := range in.all {
		parts[n].only[root] = append(parts[n].only[root], it.name)
	}
}
