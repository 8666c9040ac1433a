package image

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Index is an image index, or Docker's manifest list, that is to be written.
type Index struct {
	// Digest and MediaType are those of Raw.
	Digest    v1.Hash
	MediaType types.MediaType
	// Raw is the index as it is stored.
	Raw []byte
	// Images are the rewritten images in it, in order.
	Images []*Image
	// Notes tell what of the source's index the result cannot have.
	Notes []string

	root *document
}

// IndexRewrite says what else changes in an index whose images were rewritten.
type IndexRewrite struct {
	// Family is the manifest media type of the images; the index is of the same
	// family. Empty: the source's.
	Family types.MediaType
	// DropBase removes annotations about the base of the images, which was
	// squashed.
	DropBase bool
	// Annotations of the index are set or removed, in order; Docker's manifest
	// lists have none.
	Annotations []KeyValue
}

// Rewrite returns the index of the source with the results in the place of
// Images. Order, annotations, platforms and what is not an image stay as they
// are; attestations of images that changed are left out. A source without an
// index gets one for several images.
func (s *Selection) Rewrite(ctx context.Context, results []*Image, r IndexRewrite) (*Index, error) {
	w := &indexRewriter{ctx: ctx, sel: s, how: r, copies: copies{}, indexes: map[*node]*document{}}
	for _, img := range results {
		complete, err := completeImage(ctx, img, types.OCIManifestSchema1)
		if err != nil {
			return nil, err
		}
		w.results = append(w.results, complete)
		w.documents = append(w.documents, complete.document())
	}
	w.changed = s.changed(w.results)
	var root *document
	var err error
	if s.root != nil {
		root, err = w.index(s.root, true)
	} else {
		root, err = w.made()
	}
	if err != nil {
		return nil, fmt.Errorf("rewriting the index: %w", err)
	}
	if _, err := parseIndex(root.raw); err != nil {
		return nil, fmt.Errorf("checking the rewritten index: %w", err)
	}
	return &Index{Digest: root.digest, MediaType: root.mediaType, Raw: root.raw, Images: w.results, Notes: w.notes, root: root}, nil
}

type indexRewriter struct {
	ctx     context.Context
	sel     *Selection
	how     IndexRewrite
	results []*Image
	changed []v1.Hash
	notes   []string
	copies  copies
	// documents are those of results, indexes those of indexes below: each may be
	// listed many times.
	documents []*document
	indexes   map[*node]*document
}

// index rewrites an index and those below it. Without an entry left it is nil.
func (w *indexRewriter) index(n *node, top bool) (*document, error) {
	doc, err := parseDocument(n.raw)
	if err != nil {
		return nil, err
	}
	list, err := doc.list("manifests")
	if err != nil {
		return nil, err
	}
	out := &document{}
	same := true
	for i := len(n.entries) - 1; i >= 0; i-- {
		value, below, err := w.entry(n.entries[i])
		switch {
		case err != nil:
			return nil, err
		case below == nil:
			list.remove(i, i+1)
			same = false
			continue
		}
		same = same && string(value) == string(n.entries[i].Raw)
		list.items[i].value = value
		out.children = append(out.children, below)
	}
	slices.Reverse(out.children)
	if len(out.children) == 0 {
		return nil, nil
	}
	if !same {
		doc.set("manifests", list.bytes())
	}
	if out.mediaType, err = w.indexType(n, doc); err != nil {
		return nil, err
	}
	if w.how.DropBase {
		if err := dropBaseAnnotations(doc); err != nil {
			return nil, err
		}
	}
	if top && out.mediaType == types.OCIImageIndex {
		if err := editMap(doc, "annotations", w.how.Annotations); err != nil {
			return nil, err
		}
	}
	out.raw = doc.bytes()
	out.digest, err = hashAs(n.digest.Algorithm, out.raw)
	return out, err
}

// indexType sets the media type of an index of the result's family.
func (w *indexRewriter) indexType(n *node, doc *object) (types.MediaType, error) {
	have, err := doc.text("mediaType")
	if err != nil {
		return "", err
	}
	is := cmp.Or(types.MediaType(have), n.mediaType, types.OCIImageIndex)
	want := is
	if w.how.Family != "" {
		want = ConvertIndexType(is, w.how.Family)
	}
	if want == is {
		return is, nil
	}
	doc.set("mediaType", quoteJSON(string(want)))
	for _, name := range []string{"annotations", "subject", "artifactType"} {
		if want == types.DockerManifestList && doc.index(name) >= 0 {
			doc.delete(name)
			w.notes = append(w.notes, fmt.Sprintf("the index has no %s any more: Docker's manifest list has none", name))
		}
	}
	return want, nil
}

// entry returns an entry of the result and what it leads to; nil if it is left
// out.
func (w *indexRewriter) entry(e entry) (json.RawMessage, *document, error) {
	switch e.node.kind {
	case imageNode:
		if i := w.sel.position(e.node); i >= 0 {
			below := w.documents[i]
			value, err := w.replaced(e, below, w.how.DropBase || !keepsBase(w.sel.Images[i], w.results[i]))
			return value, below, err
		}
	case indexNode:
		below, known := w.indexes[e.node]
		if !known {
			var err error
			if below, err = w.index(e.node, false); err != nil {
				return nil, nil, err
			}
			w.indexes[e.node] = below
		}
		if below == nil {
			return nil, nil, nil
		}
		value, err := w.replaced(e, below, w.how.DropBase)
		return value, below, err
	case absentNode:
		return nil, nil, nil
	}
	if keep, err := w.keeps(e); !keep || err != nil {
		return nil, nil, err
	}
	if err := w.checkFamily(e); err != nil {
		return nil, nil, err
	}
	below, err := w.copies.document(w.ctx, w.sel.tree.store, e.descriptor, 0)
	if err != nil {
		return nil, nil, err
	}
	return e.Raw, below, nil
}

// keeps tells whether what is not rewritten stays in the index: not what names
// an image that changed, nor what was not selected.
func (w *indexRewriter) keeps(e entry) (bool, error) {
	if e.node.absent {
		return false, nil
	}
	subject, err := w.sel.subject(w.ctx, e)
	if err != nil {
		return false, err
	}
	if subject == (v1.Hash{}) {
		return !w.sel.only, nil
	}
	kept := !slices.Contains(w.changed, subject)
	if w.sel.only {
		kept = kept && slices.ContainsFunc(w.sel.Images, func(img *Image) bool { return img.Digest == subject })
	}
	return kept, nil
}

// checkFamily refuses to put a document of one family into an index of another.
func (w *indexRewriter) checkFamily(e entry) error {
	if w.how.Family == "" || e.MediaType == "" || familyOf(e.MediaType) == w.how.Family {
		return nil
	}
	what := fmt.Sprintf("the entry of type %.100q", e.typeName())
	if e.Platform != nil {
		what = fmt.Sprintf("the image for %.100q", e.Platform.String())
	}
	return &HintError{
		Err:  fmt.Errorf("%s is copied as it is, and cannot be in an index of %s", what, ConvertIndexType(types.OCIImageIndex, w.how.Family)),
		Hint: "select the platforms to convert with --platform",
	}
}

// keepsBase tells whether a result still begins with the layers of its source.
func keepsBase(source, result *Image) bool {
	return len(source.Layers) > 0 && len(result.Layers) > 0 && source.Layers[0].DiffID == result.Layers[0].DiffID
}

// replaced returns the descriptor of an entry for the document that it leads to
// now; dropBase removes what names a base that was squashed.
func (w *indexRewriter) replaced(e entry, to *document, dropBase bool) (json.RawMessage, error) {
	if to.digest == e.Digest {
		return e.Raw, nil
	}
	o, err := parseObject(e.Raw, descriptorFields...)
	if err != nil {
		return nil, err
	}
	o.set("digest", quoteJSON(to.digest.String()))
	o.set("size", strconv.AppendInt(nil, int64(len(to.raw)), 10))
	if string(to.mediaType) != string(e.MediaType) {
		o.set("mediaType", quoteJSON(string(to.mediaType)))
	}
	// It held the old document.
	o.delete("data")
	if dropBase {
		if err := dropBaseAnnotations(o); err != nil {
			return nil, err
		}
	}
	return o.bytes(), nil
}

// dropBaseAnnotations removes what names a base that was squashed.
func dropBaseAnnotations(o *object) error {
	return editMap(o, "annotations", []KeyValue{{Key: baseNameAnnotation, Remove: true}, {Key: baseDigestAnnotation, Remove: true}})
}

// made makes an index for images of a source that has none.
func (w *indexRewriter) made() (*document, error) {
	out := &document{mediaType: ConvertIndexType(types.OCIImageIndex, w.results[0].MediaType)}
	var entries []string
	for i, img := range w.results {
		below := w.documents[i]
		out.children = append(out.children, below)
		o := newObject()
		o.set("mediaType", quoteJSON(string(below.mediaType)))
		o.set("size", strconv.AppendInt(nil, int64(len(below.raw)), 10))
		o.set("digest", quoteJSON(below.digest.String()))
		o.set("platform", platformJSONOf(img.Platform))
		entries = append(entries, string(o.bytes()))
	}
	out.raw = fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%s,"manifests":[%s]}`, quoteJSON(string(out.mediaType)), strings.Join(entries, ","))
	out.digest = digestOf(out.raw)
	return out, nil
}

// platformJSONOf is the platform of a descriptor.
func platformJSONOf(p v1.Platform) json.RawMessage {
	o := newObject()
	o.set("architecture", quoteJSON(p.Architecture))
	o.set("os", quoteJSON(p.OS))
	if p.OSVersion != "" {
		o.set("os.version", quoteJSON(p.OSVersion))
	}
	if len(p.OSFeatures) > 0 {
		list := newArray()
		for _, f := range p.OSFeatures {
			list.add(item{value: quoteJSON(f)})
		}
		o.set("os.features", list.bytes())
	}
	if p.Variant != "" {
		o.set("variant", quoteJSON(p.Variant))
	}
	return o.bytes()
}
