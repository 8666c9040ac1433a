package image

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Bounds on what one source may make this package read.
const (
	maxIndexDepth = 4   // of indexes within indexes
	maxDocuments  = 512 // indexes and manifests looked at
	// maxEntries bounds the entries of all indexes, those of one that is listed
	// several times as often.
	maxEntries = 1 << 14
)

// referenceType is the annotation by which BuildKit marks what it puts beside an
// image, referenceDigest the one that names that image.
const (
	referenceType   = "vnd.docker.reference.type"
	referenceDigest = "vnd.docker.reference.digest"
)

// nodeKind is what a descriptor leads to.
type nodeKind int

const (
	imageNode nodeKind = iota
	indexNode
	// attestationNode is what BuildKit puts beside an image.
	attestationNode
	// otherNode is an artifact, or of a type that is not known.
	otherNode
	// absentNode is an image that is not stored, as in an archive of some
	// platforms.
	absentNode
)

// node is a document of a source.
type node struct {
	kind   nodeKind
	digest v1.Hash
	// absent tells that the store does not hold the document.
	absent bool
	// platform and load are those of an image.
	platform v1.Platform
	// further are platforms of other entries for the same image.
	further []v1.Platform
	load    func(context.Context) (*Image, error)
	// mediaType, raw, doc and entries are those of an index; mediaType is what the
	// descriptor says.
	mediaType types.MediaType
	raw       []byte
	doc       indexDoc
	entries   []entry
	// total counts the entries below.
	total int
	// err tells why what should be an image cannot be read as one.
	err error
}

// alsoFor adds a platform under which an index lists an image.
func (n *node) alsoFor(p *v1.Platform) {
	if p != nil && n.kind == imageNode && p.OS != "" && p.Architecture != "" && !slices.ContainsFunc(n.platforms(), p.Equals) {
		n.further = append(n.further, *p)
	}
}

// platforms are those under which an image is listed.
func (n *node) platforms() []v1.Platform { return append([]v1.Platform{n.platform}, n.further...) }

// image loads the image of a node.
func (n *node) image(ctx context.Context) (*Image, error) {
	loaded, err := n.load(ctx)
	if err != nil {
		return nil, err
	}
	img := *loaded
	if a, b := normalize(n.platform), normalize(img.Platform); a.OS != b.OS || a.Architecture != b.Architecture {
		img.Notes = append(slices.Clone(img.Notes), fmt.Sprintf("the index says %q, the image's config %q", n.platform, img.Platform))
	}
	return &img, nil
}

// entry is a descriptor, in an index or as the root of a source, and what it
// leads to. One node may have several.
type entry struct {
	descriptor
	node *node
}

// tree is all that a source offers.
type tree struct {
	roots []entry
	// store holds the documents; nil where images have none of their own.
	store blobStore
	notes []string
}

// all calls visit for every entry, parents first, until it returns false.
func (t *tree) all(visit func(entry)) {
	var below func([]entry)
	below = func(entries []entry) {
		for _, e := range entries {
			visit(e)
			below(e.node.entries)
		}
	}
	below(t.roots)
}

// catalog lists what there is to choose one image from.
func (t *tree) catalog() (*catalog, error) {
	c := &catalog{notes: slices.Clone(t.notes)}
	seen := map[*node]bool{}
	attestations := 0
	var refused []error
	t.all(func(e entry) {
		n := e.node
		if seen[n] {
			return
		}
		seen[n] = true
		switch {
		case n.err != nil:
			refused = append(refused, n.err)
		case n.kind == imageNode:
			c.images = append(c.images, n)
		case n.kind == attestationNode:
			attestations++
		case n.kind == otherNode:
			note := fmt.Sprintf("an entry of type %.100q was left out", e.typeName())
			if !slices.Contains(c.notes, note) {
				c.notes = append(c.notes, note)
			}
		case n.kind == absentNode:
			c.absent = append(c.absent, absence(e.descriptor))
		}
	})
	if attestations > 0 {
		c.notes = append(c.notes, fmt.Sprintf("%d attestation manifests beside the image were left out", attestations))
	}
	if len(c.images) == 0 && len(refused) > 0 {
		return nil, refused[0]
	}
	for _, err := range refused {
		c.notes = append(c.notes, fmt.Sprintf("an entry of the index was left out: %v", err))
	}
	return c, nil
}

// typeName is what an entry says it is.
func (e entry) typeName() string {
	if e.ArtifactType != "" {
		return e.ArtifactType
	}
	return string(e.MediaType)
}

// walk follows descriptors in a blob store to all that they lead to.
type walk struct {
	store blobStore
	// ref names the source in messages and images.
	ref   string
	names []string
	// roots are where the walk begins.
	roots []descriptor

	nodes     map[claim]*node
	documents int
}

// claim is a document and what a descriptor says that it is.
type claim struct {
	digest v1.Hash
	kind   nodeKind
}

// tree implements Source.tree.
func (w walk) tree(ctx context.Context) (*tree, error) {
	w.nodes = map[claim]*node{}
	t := &tree{store: w.store}
	for _, root := range w.roots {
		n, err := w.visit(ctx, root, 0)
		if err != nil {
			return nil, err
		}
		t.roots = append(t.roots, entry{root, n})
	}
	return t, nil
}

// visit returns what a descriptor leads to.
func (w *walk) visit(ctx context.Context, d descriptor, depth int) (*node, error) {
	n := &node{digest: d.Digest}
	alone := depth == 0 && len(w.roots) == 1
	switch {
	case alone:
	case isAttestation(d):
		n.kind = attestationNode
	case d.ArtifactType != "" || !d.MediaType.IsImage() && !d.MediaType.IsIndex() && d.MediaType != "":
		n.kind = otherNode
	}
	is := claim{d.Digest, n.kind}
	if known := w.nodes[is]; known != nil {
		known.alsoFor(d.Platform)
		return known, nil
	}
	w.nodes[is] = n
	n.absent = !alone && !w.store.has(d.Digest)
	switch {
	case n.kind != imageNode:
		return n, nil
	case n.absent:
		n.kind = absentNode
		return n, nil
	case !alone && d.MediaType.IsImage() && d.Platform != nil && d.Platform.OS != "" && d.Platform.Architecture != "":
		n.platform = *d.Platform
		n.load = func(ctx context.Context) (*Image, error) { return w.load(ctx, d) }
		return n, nil
	}
	return n, w.look(ctx, n, d, depth, alone)
}

// look reads a document to see what it is: an index, or an image whose
// platform only its config tells.
func (w *walk) look(ctx context.Context, n *node, d descriptor, depth int, alone bool) error {
	if w.documents++; w.documents > maxDocuments {
		return fmt.Errorf("reading the index: more than %d manifests", maxDocuments)
	}
	raw, err := w.document(ctx, d)
	if err != nil {
		return err
	}
	if d.MediaType.IsIndex() || d.MediaType == "" && isIndex(raw) {
		n.kind, n.raw, n.mediaType = indexNode, raw, d.MediaType
		return w.lookIndex(ctx, n, d, depth)
	}
	img, err := w.image(ctx, d, raw)
	switch {
	case err == nil:
		n.platform = img.Platform
		n.load = func(context.Context) (*Image, error) { return img, nil }
	case alone || ctx.Err() != nil:
		return err
	default:
		n.kind, n.err = otherNode, err
	}
	return nil
}

func (w *walk) lookIndex(ctx context.Context, n *node, d descriptor, depth int) (err error) {
	if depth >= maxIndexDepth {
		return fmt.Errorf("reading the index: more than %d indexes within one another", maxIndexDepth)
	}
	if n.doc, err = parseIndex(n.raw); err == nil {
		err = checkMediaType(d.MediaType, n.doc.MediaType)
	}
	if err != nil {
		return fmt.Errorf("reading index %s: %w", d.Digest, err)
	}
	for _, child := range n.doc.Manifests {
		below, err := w.visit(ctx, child, depth+1)
		if err != nil {
			return err
		}
		n.entries = append(n.entries, entry{child, below})
		if n.total += 1 + below.total; n.total > maxEntries {
			return fmt.Errorf("reading the index: more than %d entries", maxEntries)
		}
	}
	return nil
}

// absence words that an image's manifest is not there.
func absence(d descriptor) string {
	what := "an image"
	if d.Platform != nil {
		what = fmt.Sprintf("the image for %.100q", d.Platform.String())
	}
	return fmt.Sprintf("%s, whose manifest %s is not stored,", what, d.Digest)
}

// isAttestation recognises what BuildKit puts beside an image, see
// https://github.com/moby/buildkit/blob/v0.29.0/docs/attestations/attestation-storage.md
func isAttestation(d descriptor) bool {
	unknown := d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
	return unknown || d.Annotations[referenceType] != ""
}

// isIndex tells whether a document that no descriptor describes is an index.
func isIndex(raw []byte) bool {
	o, err := parseMap(raw)
	return err == nil && o.get("manifests") != nil
}

// document reads a manifest or index.
func (w *walk) document(ctx context.Context, d descriptor) ([]byte, error) {
	rc, err := w.store.manifest(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("reading manifest %s: %w", d.Digest, err)
	}
	raw, err := readDocument(rc, d.Digest, d.Size, maxManifestSize)
	if err != nil {
		return nil, fmt.Errorf("reading manifest: %w", err)
	}
	return raw, nil
}

// load reads the image of a manifest's descriptor.
func (w *walk) load(ctx context.Context, d descriptor) (*Image, error) {
	raw, err := w.document(ctx, d)
	if err != nil {
		return nil, err
	}
	return w.image(ctx, d, raw)
}

// image reads the config that a manifest names and puts the image together.
func (w *walk) image(ctx context.Context, d descriptor, manifest []byte) (*Image, error) {
	ref := w.ref + "@" + d.Digest.String()
	m, err := parseManifest(manifest, d.MediaType)
	if err != nil {
		return nil, fmt.Errorf("reading %s: manifest: %w", ref, err)
	}
	config, err := w.config(ctx, m.Config)
	if err != nil {
		return nil, fmt.Errorf("reading %s: config: %w", ref, err)
	}
	img, err := newImage(ref, d.Digest, d.MediaType, manifest, config)
	if err != nil {
		return nil, err
	}
	img.Names = slices.Clone(w.names)
	for i := range img.Layers {
		l := &img.Layers[i]
		if !l.Foreign && !w.store.has(l.Digest) {
			return nil, fmt.Errorf("reading %s: layer %d: %w", ref, i+1, missingBlob(l.Digest, fs.ErrNotExist))
		}
		l.origins = w.store.origins()
		l.Open = openerOf(w.store, m.Layers[i])
	}
	return img, nil
}

// openerOf returns what opens a layer's blob. The urls of a foreign layer are
// not among the places where it looks.
func openerOf(store blobStore, d descriptor) func(context.Context) (io.ReadCloser, error) {
	return func(ctx context.Context) (io.ReadCloser, error) { return store.blob(ctx, d) }
}

// config reads an image config.
func (w *walk) config(ctx context.Context, d descriptor) ([]byte, error) {
	rc, err := w.store.blob(ctx, d)
	if err != nil {
		return nil, err
	}
	return readDocument(rc, d.Digest, d.Size, maxConfigSize)
}
