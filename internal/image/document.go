package image

import (
	"context"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// document is a manifest or an index as it is stored, with what it refers to.
type document struct {
	mediaType types.MediaType
	digest    v1.Hash
	raw       []byte
	// blobs are config and layers, each once, foreign ones left out.
	blobs    []Layer
	children []*document
}

// document returns an image in the form in which it is written. Its manifest is
// not nil.
func (img *Image) document() *document {
	d := &document{mediaType: img.MediaType, digest: img.Digest, raw: img.Manifest}
	d.blobs = append(d.blobs, memoryBlob(img.Config, configAlgorithm(img)))
	seen := map[v1.Hash]bool{}
	for _, l := range img.Layers {
		if !l.Foreign && !seen[l.Digest] {
			seen[l.Digest] = true
			d.blobs = append(d.blobs, l)
		}
	}
	return d
}

// allBlobs are the blobs of the whole tree, each digest once.
func (doc *document) allBlobs() []Layer {
	var all []Layer
	seen := map[v1.Hash]bool{}
	for _, d := range append([]*document{doc}, doc.descendants()...) {
		for _, b := range d.blobs {
			if !seen[b.Digest] {
				seen[b.Digest] = true
				all = append(all, b)
			}
		}
	}
	return all
}

// descendants are the documents below this one, each digest once, what is
// referred to before what refers to it.
func (doc *document) descendants() []*document {
	var all []*document
	seen := map[v1.Hash]bool{doc.digest: true}
	var add func(*document)
	add = func(d *document) {
		for _, child := range d.children {
			if !seen[child.digest] {
				seen[child.digest] = true
				add(child)
				all = append(all, child)
			}
		}
	}
	add(doc)
	return all
}

// stored are a document and all below it as a layout holds them, each digest once,
// documents first.
func (doc *document) stored() []Layer {
	var all []Layer
	seen := map[v1.Hash]bool{}
	add := func(l Layer) {
		if !seen[l.Digest] {
			seen[l.Digest] = true
			all = append(all, l)
		}
	}
	add(memoryBlob(doc.raw, doc.digest.Algorithm))
	for _, d := range doc.descendants() {
		add(memoryBlob(d.raw, d.digest.Algorithm))
	}
	for _, b := range doc.allBlobs() {
		add(b)
	}
	return all
}

// copies are documents that are copied as they are, each read once.
type copies map[v1.Hash]*document

// document is one that is copied, whatever it is: its bytes, the blobs that it names,
// and the documents below it.
func (all copies) document(ctx context.Context, store blobStore, d descriptor, depth int) (*document, error) {
	if known := all[d.Digest]; known != nil {
		return known, nil
	}
	if len(all) >= maxDocuments {
		return nil, fmt.Errorf("copying %s: more than %d documents", d.Digest, maxDocuments)
	}
	if depth > maxIndexDepth {
		return nil, fmt.Errorf("copying %s: more than %d documents within one another", d.Digest, maxIndexDepth)
	}
	rc, err := store.manifest(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("copying %s: %w", d.Digest, err)
	}
	raw, err := readDocument(rc, d.Digest, d.Size, maxManifestSize)
	if err != nil {
		return nil, fmt.Errorf("copying: %w", err)
	}
	doc := &document{mediaType: ownType(raw, d.MediaType), digest: d.Digest, raw: raw}
	blobs, children := references(raw)
	for _, b := range blobs {
		if !b.isForeign() {
			doc.blobs = append(doc.blobs, storedLayer(store, b))
		}
	}
	for _, c := range children {
		below, err := all.document(ctx, store, c, depth+1)
		if err != nil {
			return nil, err
		}
		doc.children = append(doc.children, below)
	}
	all[d.Digest] = doc
	return doc, nil
}

// ownType is what a document says that it is, whatever its descriptor claims: a
// registry takes it under no other type.
func ownType(raw []byte, claimed types.MediaType) types.MediaType {
	doc, err := parseMap(raw)
	if err != nil {
		return claimed
	}
	if stated, err := doc.text("mediaType"); err == nil && stated != "" {
		return types.MediaType(stated)
	}
	return claimed
}

// references are the descriptors in a document of any type. What is not
// understood refers to nothing.
func references(raw []byte) (blobs, children []descriptor) {
	if checkDocument(raw, maxManifestSize) != nil {
		return nil, nil
	}
	doc, err := parseMap(raw)
	if err != nil {
		return nil, nil
	}
	if config, err := requiredDescriptor(doc, "config"); err == nil {
		blobs = append(blobs, config)
	}
	for _, name := range []string{"layers", "blobs"} {
		list, err := requiredDescriptors(doc, name)
		if err == nil {
			blobs = append(blobs, list...)
		}
	}
	if list, err := requiredDescriptors(doc, "manifests"); err == nil {
		children = list
	}
	return blobs, children
}

// storedLayer is a blob of a store.
func storedLayer(store blobStore, d descriptor) Layer {
	return Layer{Digest: d.Digest, Size: d.Size, MediaType: d.MediaType, origins: store.origins(), Open: openerOf(store, d)}
}
