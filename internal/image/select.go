package image

import (
	"context"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Selection is the images of a source that are to be rewritten, and the index
// that they are entries of.
type Selection struct {
	// Images are in the order of the index, each manifest once.
	Images []*Image
	// Notes tell what of the source is beside them, one sentence each.
	Notes []string

	source *Source
	tree   *tree
	// root is the index; nil where the source has none, or where one platform
	// was selected from it.
	root *node
	// chosen are the nodes of Images.
	chosen []*node
	// only tells that platforms were selected, so that the others are left out.
	only bool
	// subjects are those of documents that were read.
	subjects map[v1.Hash]v1.Hash
	catalog  *catalog
}

// Select returns the images of platforms, OS/ARCH[/VARIANT] each, or without
// any platform all those for Linux. What is for another system stays as it is; to
// select what is not there is a *UsageError.
func (s *Source) Select(ctx context.Context, platforms []string) (*Selection, error) {
	t, err := s.tree(ctx)
	if err != nil {
		return nil, err
	}
	sel := &Selection{source: s, tree: t, only: len(platforms) > 0, subjects: map[v1.Hash]v1.Hash{}}
	if len(t.roots) == 1 && t.roots[0].node.kind == indexNode && len(platforms) != 1 {
		sel.root = t.roots[0].node
	}
	c, err := t.catalog()
	if err != nil {
		return nil, err
	}
	sel.catalog = c
	if sel.only {
		err = sel.choose(c, platforms)
	} else {
		err = sel.chooseAll(c)
	}
	if err != nil {
		return nil, err
	}
	for _, n := range sel.chosen {
		img, err := n.image(ctx)
		if err != nil {
			return nil, err
		}
		sel.Images = append(sel.Images, img)
	}
	return sel, nil
}

// choose selects one image for each platform.
func (s *Selection) choose(c *catalog, platforms []string) error {
	for _, p := range platforms {
		want, err := parsePlatform(p)
		if err != nil {
			return err
		}
		n, notes, err := c.match(*want)
		if err != nil {
			return err
		}
		if s.root == nil {
			s.Notes = notes
		}
		if !slices.Contains(s.chosen, n) {
			s.chosen = append(s.chosen, n)
		}
	}
	// The order of the index counts, not that of the command line.
	slices.SortFunc(s.chosen, func(a, b *node) int { return slices.Index(c.images, a) - slices.Index(c.images, b) })
	return nil
}

// chooseAll selects every image for Linux.
func (s *Selection) chooseAll(c *catalog) error {
	for _, n := range c.images {
		if n.platform.OS == "" || strings.EqualFold(n.platform.OS, "linux") {
			s.chosen = append(s.chosen, n)
		}
	}
	if s.root == nil || len(s.chosen) == 0 {
		return s.chooseWithoutIndex(c)
	}
	for _, n := range c.images {
		if !slices.Contains(s.chosen, n) {
			s.Notes = append(s.Notes, fmt.Sprintf("the image for %q is copied as it is", n.platform))
		}
	}
	for _, a := range c.absent {
		s.Notes = append(s.Notes, a+" was left out")
	}
	return nil
}

// chooseWithoutIndex selects the only image, or the first for each platform of
// a source that lists several without an index.
func (s *Selection) chooseWithoutIndex(c *catalog) error {
	kept, _ := firstOfEach(s.chosen)
	if len(kept) > 1 {
		s.chosen = kept
		s.Notes = s.leftOut()
		return nil
	}
	n, notes, err := c.choose(nil)
	if err != nil {
		return err
	}
	s.chosen, s.Notes, s.root = []*node{n}, notes, nil
	return nil
}

// leftOut tells what of the source no index of the result can hold.
func (s *Selection) leftOut() []string {
	notes := slices.Clone(s.catalog.notes)
	for _, a := range s.catalog.absent {
		notes = append(notes, a+" was left out")
	}
	for _, n := range s.catalog.images {
		if !slices.Contains(s.chosen, n) {
			notes = append(notes, fmt.Sprintf("the image for %q was left out", n.platform))
		}
	}
	return notes
}

// IsIndex tells whether the result is an index: that of the source, or one that
// is made for several images.
func (s *Selection) IsIndex() bool { return s.root != nil || len(s.Images) > 1 }

// Single returns the selection for a target that holds one image. Several are a
// *UsageError.
func (s *Selection) Single(target Ref) (*Selection, error) {
	if len(s.Images) > 1 {
		return nil, &UsageError{
			Msg:  fmt.Sprintf("%s holds one image, and the source has several: %s", target, platforms(s.chosen)),
			Hint: "select one with --platform",
		}
	}
	one := *s
	if one.root != nil {
		one.root, one.Notes = nil, s.leftOut()
	}
	return &one, nil
}

// HoldsOne tells whether a target of the transport holds one image and no index.
func (t Transport) HoldsOne() bool {
	return t == DockerArchive || t == DockerDaemon || t == Stdio
}

// position returns which of Images a node is, -1 if it is none of them.
func (s *Selection) position(n *node) int { return slices.Index(s.chosen, n) }

// changed returns the digests of documents that results replace: those of images
// and, if there is one, of the index above them.
func (s *Selection) changed(results []*Image) []v1.Hash {
	var gone []v1.Hash
	for i, img := range s.Images {
		if img.Digest != (v1.Hash{}) && results[i].Digest != img.Digest {
			gone = append(gone, img.Digest)
		}
	}
	if len(gone) > 0 || s.only && s.root != nil {
		s.tree.all(func(e entry) {
			if e.node.kind == indexNode && !slices.Contains(gone, e.node.digest) {
				gone = append(gone, e.node.digest)
			}
		})
	}
	return gone
}

// Resolved returns the digest of what the source's reference names, whatever was
// selected of it; zero for what has none.
func (s *Selection) Resolved() v1.Hash {
	if len(s.tree.roots) == 1 {
		return s.tree.roots[0].node.digest
	}
	return v1.Hash{}
}

// IsEntry tells whether a target is the entry of the image layout that the source was
// read from: one without a name selects the only entry, whatever that is called.
func (s *Selection) IsEntry(source, target Ref) bool {
	if source.Transport != OCI || target.Transport != OCI || len(s.tree.roots) != 1 {
		return false
	}
	same := s.tree.roots[0].Annotations[refNameAnnotation] == target.Name
	target.Name = source.Name
	return same && SameFile(source, target)
}

// LeftOut lists the platforms of the source that the result does not have because
// others were selected; empty if there are none.
func (s *Selection) LeftOut() string {
	var out []*node
	for _, n := range s.catalog.images {
		if s.only && s.position(n) < 0 {
			out = append(out, n)
		}
	}
	return platforms(out)
}

// EngineID returns what the engine calls the image that the source names; empty where
// the source is no engine.
func (s *Selection) EngineID() string { return s.source.engineID }

// Digest returns the digest of the index or, where there is none, of the only
// image; zero for what has neither.
func (s *Selection) Digest() v1.Hash {
	switch {
	case s.root != nil:
		return s.root.digest
	case len(s.Images) == 1:
		return s.Images[0].Digest
	}
	return v1.Hash{}
}
