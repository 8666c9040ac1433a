package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"slim/internal/flatten"
	"slim/internal/image"
	"slim/internal/layer"
)

// proof holds what a written image is proved against.
type proof struct {
	o *squashOptions
	// source is the filesystem of the source before anything was removed, files
	// what the result must hold.
	source *flatten.Tree
	files  *flatten.Replayed
	layers *layer.Set
	result *image.Image
	// removed counts the paths that the report says were removed.
	removed int
	// kept is the number of base layers, written that of the layers above them
	// that slim wrote.
	kept, written int
}

// check proves an image that was read back from the target: its documents are
// those that were written, its new layer keeps the promises of flatten.Changeset,
// and its filesystem is that of the source less what the report says. An error
// that is errNotHeld tells what does not hold.
func (p *proof) check(ctx context.Context, back *image.Image) error {
	if err := p.documents(back); err != nil {
		return err
	}
	if err := p.removal(); err != nil {
		return err
	}
	layers, err := p.o.readHashed(ctx, back, nil)
	if errors.Is(err, layer.ErrMismatch) {
		return notHeld("%v", nameLayer(back, err))
	}
	if err != nil {
		return fmt.Errorf("reading back: %w", nameLayer(back, err))
	}
	defer layers.Close()
	files, err := p.replay(back, layers)
	if err != nil {
		return err
	}
	return sameFiles(flatten.Compare(p.files.Final, files, flatten.CompareOptions{ContentA: p.layers.Sum}))
}

// replay returns the filesystem of the image that was read back, and checks each
// written layer against what lies below it. The kept layers, whose diffIDs were
// verified to be the source's, need not be replayed again.
func (p *proof) replay(back *image.Image, layers *layer.Set) (*flatten.Tree, error) {
	tree := p.files.Base
	if tree == nil {
		tree = flatten.NewTree()
	}
	all := entriesOf(layers)
	for i := p.kept; i < len(all); i++ {
		if i >= len(all)-p.written {
			if err := flatten.CheckLayer(tree, all[i]); err != nil {
				return nil, notHeld("the written layer %d: %v", i+1, err)
			}
		}
		above, err := flatten.ReplayAbove(tree, all[i:i+1], i)
		if err != nil {
			return nil, notHeld("%v", nameLayer(back, err))
		}
		tree = above.Final
	}
	return tree, nil
}

func notHeld(format string, args ...any) error {
	return fmt.Errorf("verification: %s: %w", fmt.Sprintf(format, args...), errNotHeld)
}

func (p *proof) documents(back *image.Image) error {
	if !bytes.Equal(back.Config, p.result.Config) {
		return notHeld("the config that was read back is another one")
	}
	if back.Manifest != nil && p.result.Manifest != nil && !p.o.toDocker() && !bytes.Equal(back.Manifest, p.result.Manifest) {
		return notHeld("the manifest that was read back is another one")
	}
	if !slices.Equal(diffIDs(back), diffIDs(p.result)) {
		return notHeld("the layers that were read back are others")
	}
	return nil
}

// removal proves that the rules took away what the report counts, and nothing
// else changed.
func (p *proof) removal() error {
	gone := 0
	o := flatten.CompareOptions{Ignore: map[flatten.Field]bool{flatten.FieldHardlinks: true}, ContentA: p.layers.Sum, ContentB: p.layers.Sum}
	for c, err := range flatten.Compare(p.source, p.files.Final, o) {
		if err != nil {
			return err
		}
		if c.B != nil {
			return notHeld("removing files changed %q", "/"+c.Path)
		}
		gone++
	}
	if gone != p.removed {
		return notHeld("%d paths are gone, the report counts %d", gone, p.removed)
	}
	return nil
}

// namedPaths is how many paths an error names.
const namedPaths = 5

func sameFiles(changes iter.Seq2[flatten.Change, error]) error {
	var named []string
	count := 0
	for c, err := range changes {
		if err != nil {
			return err
		}
		if count++; count <= namedPaths {
			named = append(named, describe(c))
		}
	}
	if count == 0 {
		return nil
	}
	if count > namedPaths {
		named = append(named, fmt.Sprintf("and %d more", count-namedPaths))
	}
	return notHeld("%d paths differ from the source: %s", count, strings.Join(named, "; "))
}

func describe(c flatten.Change) string {
	p := fmt.Sprintf("%q", "/"+c.Path)
	switch {
	case c.B == nil:
		return p + " is missing"
	case c.A == nil:
		return p + " should not be there"
	}
	var fields []fieldDifferent
	for _, d := range c.Details {
		fields = append(fields, fieldDifferent{string(d.Field), d.A, d.B})
	}
	return p + fieldTexts(fields)
}
