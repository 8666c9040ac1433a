// Package share chooses the boundary between the base layers that stay byte for
// byte and the layers that are squashed, and plans what a squash saves.
//
// A base is recognised by the diffIDs of its layers, compared by position, as
// they name the uncompressed content: recompression changes a digest, not a
// diffID, and an image may hold one diffID twice.
package share

import (
	"errors"
	"fmt"

	"slim/internal/flatten"
)

// ErrNotBase is returned when an image does not start with the layers of a base.
var ErrNotBase = errors.New("the image is not built on this base")

// Prefix returns how many of the lowest layers of an image are those of the base:
// all of the base's, or an error that is ErrNotBase and tells where they part.
func Prefix(image, base []string) (int, error) {
	if len(base) > len(image) {
		return 0, fmt.Errorf("%w: it has %d layers, the base %d", ErrNotBase, len(image), len(base))
	}
	for i, id := range base {
		if image[i] != id {
			return 0, fmt.Errorf("%w: layer %d is %s, in the base %s", ErrNotBase, i+1, image[i], id)
		}
	}
	return len(base), nil
}

// Lowest checks a number of layers to keep against what the image has.
func Lowest(n, layers int) (int, error) {
	if n < 0 || n > layers {
		return 0, fmt.Errorf("%d base layers asked for, the image has %d", n, layers)
	}
	return n, nil
}

// Sizes counts layers and their bytes.
type Sizes struct {
	Layers int `json:"layers"`
	// Stored is what the blobs take, Inflated the uncompressed tars, Content
	// the files in them.
	Stored   int64 `json:"stored_bytes"`
	Inflated int64 `json:"inflated_bytes"`
	Content  int64 `json:"content_bytes"`
}

func (s *Sizes) add(l Layer) {
	s.Layers++
	s.Stored += l.Stored
	s.Inflated += l.Inflated
	s.Content += l.Stats.Bytes
}

// Layer is what is known of a layer of the source once it was read.
type Layer struct {
	Stored, Inflated int64
	Stats            flatten.LayerStats
}

// Plan tells what a squash keeps, writes and saves.
type Plan struct {
	Source, Kept, Squashed Sizes
	// Shadowed is content of the squashed layers that layers above hid.
	Shadowed int64
	// BaseShadowed is content of the kept layers that is hidden: what squashing
	// the base too would save.
	BaseShadowed int64
	// Done tells that the layers above the boundary already are as a squash
	// leaves them: at most one, without markers, duplicates or shadowed entries.
	Done bool
}

// NewPlan sums up the layers of a source of which the lowest kept stay. final is
// the filesystem of all layers before anything is removed from it.
func NewPlan(layers []Layer, kept int, final *flatten.Tree) *Plan {
	p := &Plan{Done: len(layers)-kept <= 1}
	live := final.LiveBytes(len(layers))
	for i, l := range layers {
		p.Source.add(l)
		hidden := l.Stats.Bytes - live[i]
		if i < kept {
			p.Kept.add(l)
			p.BaseShadowed += hidden
			continue
		}
		p.Squashed.add(l)
		p.Shadowed += hidden
		p.Done = p.Done && l.Stats.Markers == 0 && l.Stats.Duplicates == 0 && l.Stats.Hides == 0
	}
	return p
}
