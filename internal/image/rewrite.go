package image

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Manifest annotations about the image that the lowest layers come from, see
// https://github.com/opencontainers/image-spec/blob/v1.1.1/annotations.md
const (
	baseNameAnnotation   = "org.opencontainers.image.base.name"
	baseDigestAnnotation = "org.opencontainers.image.base.digest"
)

// newLayerHint is about a new layer that Docker's family does not have.
const newLayerHint = "compress with --compression gzip, which every engine reads, or write the manifest with --format oci"

// layerTypes are the media types of the same bytes in both families.
var layerTypes = []struct{ oci, docker types.MediaType }{
	{types.OCIUncompressedLayer, types.DockerUncompressedLayer},
	{types.OCILayer, types.DockerLayer},
	{types.OCILayerZStd, dockerLayerZstd},
	{types.OCIUncompressedRestrictedLayer, dockerForeignLayerUncompressed},
	{types.OCIRestrictedLayer, types.DockerForeignLayer},
	{ociRestrictedLayerZstd, dockerForeignLayerZstd},
}

// Rewrite says which layers an image has instead of its own, and how that is
// recorded.
type Rewrite struct {
	// Kept is how many of the lowest layers stay as they are.
	Kept int
	// KeptLayers are taken for the lowest Kept layers: the same ones as
	// another image stores them, found by diffID. Nil: the image's own.
	KeptLayers []Layer
	// New are the layers above the kept ones; MediaType, Digest, Size and
	// DiffID are set.
	New []Layer
	// BaseHistory is how many history entries the base image has, which is
	// where DropHistory cuts; 0 if that is not known.
	BaseHistory int
	// CreatedBy and Comment are those of the new layers' history entries.
	CreatedBy, Comment string
	// DropHistory leaves out the entries above the kept layers.
	DropHistory bool
	// BaseName and BaseDigest name the image that the kept layers come from,
	// where that is known; they become annotations of OCI manifests.
	BaseName   string
	BaseDigest v1.Hash
	// Family is the manifest media type of the result: empty for the image's
	// own, which is Docker's where it has no manifest.
	Family types.MediaType
	// Edits are what else changes.
	Edits Edits
}

// LayerMediaType returns the media type of a layer that is compressed with
// "gzip", "zstd" or "none" in a manifest of the media type family. The error
// about a compression that the family does not have is a *HintError.
func LayerMediaType(family types.MediaType, compression string) (types.MediaType, error) {
	oci, ok := map[string]types.MediaType{
		"none": types.OCIUncompressedLayer, "gzip": types.OCILayer, "zstd": types.OCILayerZStd,
	}[compression]
	if !ok {
		return "", fmt.Errorf("[internal error] compression %q has no media type", compression)
	}
	return convertLayerType(oci, family, newLayerHint)
}

// CheckKept finds, before any work, a layer that cannot be kept in a manifest of
// the media type family: a *HintError. The layers are the lowest ones of an
// image; those of a classic docker-archive have no media type yet and pass.
func CheckKept(layers []Layer, family types.MediaType) error {
	for i, l := range layers {
		if l.MediaType == "" {
			continue
		}
		if _, err := convertLayerType(l.MediaType, family, keptLayerHint(family)); err != nil {
			return fmt.Errorf("layer %d (%s): %w", i+1, l.Digest, err)
		}
	}
	return nil
}

// ConvertIndexType returns the media type of an image index in the family of the
// manifest media type family: that of a manifest list for Docker's, and the
// other way round. Any other t is returned as it is.
func ConvertIndexType(t, family types.MediaType) types.MediaType {
	switch {
	case t == types.OCIImageIndex && family == types.DockerManifestSchema2:
		return types.DockerManifestList
	case t == types.DockerManifestList && family == types.OCIManifestSchema1:
		return types.OCIImageIndex
	}
	return t
}

// convertLayerType returns the media type of the same bytes in a family. hint is
// what to do about one that the family does not have.
func convertLayerType(t, family types.MediaType, hint string) (types.MediaType, error) {
	if !family.IsImage() {
		return "", fmt.Errorf("[internal error] %q is not the media type of an image manifest", family)
	}
	if familyOf(t) == family {
		return t, nil
	}
	for _, pair := range layerTypes {
		switch {
		case family == types.OCIManifestSchema1 && pair.docker == t:
			return pair.oci, nil
		case family == types.DockerManifestSchema2 && pair.oci == t && !strings.HasSuffix(string(t), "+zstd"):
			return pair.docker, nil
		}
	}
	return "", &HintError{
		Err:  fmt.Errorf("%s manifest cannot hold a layer of media type %.100q", familyName(family), t),
		Hint: hint,
	}
}

// familyName names the family of a manifest media type, with its article.
func familyName(family types.MediaType) string {
	if family == types.DockerManifestSchema2 {
		return "a Docker"
	}
	return "an OCI"
}

// keptLayerHint is about a kept layer that the family does not have, and so is of
// the other one: no flag compresses it.
func keptLayerHint(family types.MediaType) string {
	format := "oci"
	if family == types.OCIManifestSchema1 {
		format = "docker"
	}
	return fmt.Sprintf("write the manifest with --format %s, or squash that layer in place of keeping it", format)
}

// Rewrite returns the image with other layers. Of its documents only what
// follows from that changes: rootfs.diff_ids and history of the config, the
// manifest's config descriptor and layers, and the annotations about the base,
// which go when no layer is kept; and what r.Edits asks for. Everything else
// stays byte for byte, kept layers' descriptors included.
//
// Another family changes the media types, in a layer's descriptor nothing else:
// readers of Docker's manifests pass over its annotations. Of the manifest,
// Docker's family has no annotations and no subject; the Notes say that they
// are gone. Within a family a subject stays, as it points away from the image.
//
// The history has one entry per layer, or none at all, also where the source's
// had not; the result's Notes say so, and hold nothing of img.Notes. A classic
// docker-archive gets a manifest, for which the start of its kept layers is
// read, and compressed ones whole.
func (img *Image) Rewrite(r Rewrite) (*Image, error) {
	if err := r.check(img); err != nil {
		return nil, err
	}
	if r.Family == "" {
		r.Family = img.MediaType
	}
	if r.Family == "" {
		r.Family = types.DockerManifestSchema2
	}
	if err := r.Edits.Check(r.Family); err != nil {
		return nil, err
	}
	layers, err := r.layers(img)
	if err != nil {
		return nil, err
	}
	var notes []string
	config, err := rewriteConfig(img.Config, r, &notes)
	if err != nil {
		return nil, fmt.Errorf("rewriting the config: %w", err)
	}
	manifest, err := rewriteManifest(img, config, layers, r, &notes)
	if err != nil {
		return nil, fmt.Errorf("rewriting the manifest: %w", err)
	}
	out, err := newImage(img.Ref, v1.Hash{}, r.Family, manifest, config)
	if err != nil {
		return nil, fmt.Errorf("checking the rewritten documents: %w", err)
	}
	for i := range out.Layers {
		out.Layers[i].Open, out.Layers[i].origins = layers[i].Open, layers[i].origins
	}
	out.Names, out.Notes = slices.Clone(img.Names), notes
	return out, nil
}

// check checks that the request fits the image.
func (r Rewrite) check(img *Image) error {
	switch {
	case r.Kept < 0 || r.Kept > len(img.Layers):
		return fmt.Errorf("%d layers cannot be kept of %d", r.Kept, len(img.Layers))
	case r.Kept == 0 && len(r.New) == 0:
		return errors.New("the image would have no layer")
	case r.KeptLayers != nil && len(r.KeptLayers) < r.Kept:
		return fmt.Errorf("%d layers cannot be kept of a base that has %d", r.Kept, len(r.KeptLayers))
	}
	if r.KeptLayers != nil {
		for i := range r.Kept {
			if got, want := r.KeptLayers[i].DiffID, img.Layers[i].DiffID; got != want {
				return fmt.Errorf("the base is another image: its layer %d has diffID %s instead of %s", i+1, got, want)
			}
		}
	}
	for i, l := range r.New {
		if l.Digest == (v1.Hash{}) || l.DiffID == (v1.Hash{}) || l.MediaType == "" {
			return fmt.Errorf("[internal error] new layer %d is not described", i+1)
		}
	}
	return nil
}

// layers returns the layers of the result. Each has a descriptor, which is not
// yet converted to the family, and kept ones have the source's.
func (r Rewrite) layers(img *Image) ([]Layer, error) {
	kept := img.Layers
	if r.KeptLayers != nil {
		kept = r.KeptLayers
	}
	layers := slices.Concat(kept[:r.Kept], r.New)
	for i, l := range layers {
		if i < r.Kept && l.Descriptor != nil {
			continue
		}
		l, err := identify(context.Background(), l)
		if err != nil {
			return nil, fmt.Errorf("layer %d (%s): %w", i+1, l.DiffID, err)
		}
		l.Descriptor = newDescriptor(l.MediaType, l.Digest, l.Size)
		layers[i] = l
	}
	return layers, nil
}

func newDescriptor(mediaType types.MediaType, digest v1.Hash, size int64) json.RawMessage {
	o := newObject()
	o.set("mediaType", quoteJSON(string(mediaType)))
	o.set("size", strconv.AppendInt(nil, size, 10))
	o.set("digest", quoteJSON(digest.String()))
	return o.bytes()
}

// rewriteConfig edits rootfs.diff_ids and history, and what r.Edits asks for.
func rewriteConfig(raw []byte, r Rewrite, notes *[]string) ([]byte, error) {
	c, err := parseConfig(raw)
	if err != nil {
		return nil, err
	}
	ids := c.rawDiffIDs
	if ids == nil {
		ids = newArray()
	}
	ids.remove(r.Kept, len(ids.items))
	for _, l := range r.New {
		ids.add(item{value: quoteJSON(l.DiffID.String())})
	}
	c.rootfs.set("diff_ids", ids.bytes())
	c.doc.set("rootfs", c.rootfs.bytes())
	// The new history entries take their time from the config.
	if err := r.Edits.editConfig(c.doc); err != nil {
		return nil, err
	}
	history, note, err := c.rewriteHistory(r)
	if err != nil {
		return nil, fmt.Errorf(`"history": %w`, err)
	}
	if note != "" {
		*notes = append(*notes, note)
	}
	if len(history.items) > 0 || c.doc.get("history") != nil {
		c.doc.set("history", history.bytes())
	}
	return c.doc.bytes(), nil
}

func newArray() *array { return &array{container{open: '[', close: ']'}} }

// rewriteHistory returns the history of the result: that of the source, in
// which entries of layers that are gone stand for none, and an entry for each
// new layer. Where it did not fit the source's layers, note says so.
func (c *configDoc) rewriteHistory(r Rewrite) (list *array, note string, err error) {
	if list, err = c.doc.list("history"); err != nil {
		return nil, "", err
	}
	if list == nil {
		list = newArray()
	}
	entries := withLayer(c.history)
	switch {
	case len(c.history) == 0 && len(r.New) == 0:
		// None at all is as good as one per layer.
	case entries != len(c.diffIDs):
		if list, err = c.rebuildHistory(r); err != nil {
			return nil, "", err
		}
		note = rebuildNote(entries, len(c.history), len(c.diffIDs), r.Kept)
	case r.DropHistory:
		list.remove(r.historyCut(c.history), len(list.items))
	default:
		if err := markEmpty(list.items, r.Kept); err != nil {
			return nil, "", err
		}
	}
	for range r.New {
		list.add(item{value: c.historyEntry(r.CreatedBy, r.Comment)})
	}
	return list, note, nil
}

// rebuildHistory returns a history of made-up entries for the kept layers, as
// nothing tells which of the source's are theirs, and then the source's.
func (c *configDoc) rebuildHistory(r Rewrite) (*array, error) {
	list := newArray()
	for _, id := range c.diffIDs[:r.Kept] {
		list.add(item{value: c.historyEntry("slim: layer "+id.String(), "")})
	}
	if r.DropHistory {
		return list, nil
	}
	for _, e := range c.history {
		list.add(item{value: e.raw})
	}
	return list, markEmpty(list.items, r.Kept)
}

// rebuildNote is empty where the source had no history and nothing had to be
// made up.
func rebuildNote(entries, length, layers, kept int) string {
	switch {
	case length > 0:
		return fmt.Sprintf("the source's history has entries for %d layers and the image has %d: it was rebuilt", entries, layers)
	case kept > 0:
		return fmt.Sprintf("the source has no history: entries of the %d kept layers were made up", kept)
	}
	return ""
}

// HistoryAbove counts the history entries that [Rewrite.DropHistory] would leave
// out: those above the kept layers. baseHistory is as in Rewrite.
func (img *Image) HistoryAbove(kept, baseHistory int) (int, error) {
	c, err := parseConfig(img.Config)
	if err != nil {
		return 0, err
	}
	return len(c.history) - Rewrite{Kept: kept, BaseHistory: baseHistory}.historyCut(c.history), nil
}

// historyCut returns how many of the entries belong to the kept layers: as
// many as the base has, if that fits, since its last ones may stand for no
// layer; else those up to the highest kept layer's.
func (r Rewrite) historyCut(history []historyEntry) int {
	if n := r.BaseHistory; n > 0 && n <= len(history) && withLayer(history[:n]) == r.Kept {
		return n
	}
	kept := 0
	for i, e := range history {
		if kept == r.Kept {
			return i
		}
		if !e.empty {
			kept++
		}
	}
	return len(history)
}

// markEmpty makes all history entries but the first of kept layers stand for
// no layer.
func markEmpty(items []item, kept int) error {
	for i := range items {
		e, err := parseObject(items[i].value, historyFields...)
		if err != nil {
			return fmt.Errorf("entry %d: %w", i+1, err)
		}
		empty, err := e.boolean("empty_layer")
		if err != nil {
			return fmt.Errorf("entry %d: %w", i+1, err)
		}
		switch {
		case empty:
		case kept > 0:
			kept--
		default:
			e.set("empty_layer", []byte("true"))
			items[i].value = e.bytes()
		}
	}
	return nil
}

// historyEntry makes an entry for a layer with the image's own time: the clock
// would give every run another digest.
func (c *configDoc) historyEntry(createdBy, comment string) json.RawMessage {
	o := newObject()
	if created := c.doc.get("created"); created != nil && created[0] == '"' {
		o.set("created", created)
	}
	o.set("created_by", quoteJSON(createdBy))
	if comment != "" {
		o.set("comment", quoteJSON(comment))
	}
	return o.bytes()
}

// rewriteManifest edits the config descriptor, the layers, the annotations and,
// where the family changes, what the other one has not.
func rewriteManifest(img *Image, config []byte, layers []Layer, r Rewrite, notes *[]string) ([]byte, error) {
	raw := img.Manifest
	if raw == nil {
		raw = emptyManifest(r.Family)
	}
	doc, err := parseDocument(raw)
	if err != nil {
		return nil, err
	}
	stated, err := doc.text("mediaType")
	if err != nil {
		return nil, err
	}
	// A source may state none, a result of another family does: registries take
	// no Docker manifest without it, and an OCI manifest should have it.
	if stated != string(r.Family) && (stated != "" || img.MediaType != r.Family) {
		doc.set("mediaType", quoteJSON(string(r.Family)))
	}
	mixed, err := rewriteConfigDescriptor(doc, config, r.Family)
	if err != nil {
		return nil, fmt.Errorf(`"config": %w`, err)
	}
	mixedLayers, err := rewriteLayers(doc, layers, r)
	if err != nil {
		return nil, err
	}
	if (mixed || mixedLayers && r.KeptLayers == nil) && img.MediaType == r.Family {
		*notes = append(*notes, fmt.Sprintf("the source's manifest mixes media types of Docker and OCI: the result has those of %s", r.Family))
	}
	if err := rewriteBaseAnnotations(doc, r); err != nil {
		return nil, err
	}
	if err := editMap(doc, "annotations", r.Edits.Annotations); err != nil {
		return nil, err
	}
	if img.MediaType == types.OCIManifestSchema1 && r.Family == types.DockerManifestSchema2 {
		if err := dropOCIMembers(doc, notes); err != nil {
			return nil, err
		}
	}
	return doc.bytes(), nil
}

// dropOCIMembers removes what Docker's manifests do not have.
// https://distribution.github.io/distribution/spec/manifest-v2-2/#image-manifest-field-descriptions
func dropOCIMembers(doc *object, notes *[]string) error {
	annotations, err := doc.stringMap("annotations")
	if err != nil {
		return err
	}
	switch n := len(annotations.items); n {
	case 0:
	case 1:
		*notes = append(*notes, "the manifest's annotation is left out: a Docker manifest has none")
	default:
		*notes = append(*notes, fmt.Sprintf("the manifest's %d annotations are left out: a Docker manifest has none", n))
	}
	if doc.get("subject") != nil {
		*notes = append(*notes, "the manifest's subject is left out: a Docker manifest has none")
	}
	// An artifactType is empty, as no artifact is taken for an image.
	for _, name := range []string{"annotations", "subject", "artifactType"} {
		doc.delete(name)
	}
	return nil
}

// emptyManifest is what the manifest of a classic docker-archive starts from.
func emptyManifest(family types.MediaType) []byte {
	configType := types.OCIConfigJSON
	if family == types.DockerManifestSchema2 {
		configType = types.DockerConfigJSON
	}
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%s,"config":%s,"layers":[]}`,
		quoteJSON(string(family)), newDescriptor(configType, digestOf(nil), 0))
}

// rewriteConfigDescriptor points the manifest to a config; mixed tells that it
// had the media type of another family.
func rewriteConfigDescriptor(doc *object, config []byte, family types.MediaType) (mixed bool, err error) {
	d, err := requiredDescriptor(doc, "config")
	if err != nil {
		return false, err
	}
	o, err := parseObject(d.Raw, descriptorFields...)
	if err != nil {
		return false, err
	}
	digest, err := hashAs(d.Digest.Algorithm, config)
	if err != nil {
		return false, err
	}
	o.set("digest", quoteJSON(digest.String()))
	o.set("size", strconv.AppendInt(nil, int64(len(config)), 10))
	if d.Data != nil {
		o.set("data", quoteJSON(base64.StdEncoding.EncodeToString(config)))
	}
	if mixed = familyOf(d.MediaType) != family; mixed {
		t := types.OCIConfigJSON
		if family == types.DockerManifestSchema2 {
			t = types.DockerConfigJSON
		}
		o.set("mediaType", quoteJSON(string(t)))
	}
	doc.set("config", o.bytes())
	return mixed, nil
}

// rewriteLayers puts the descriptors of the result's layers into the manifest;
// mixed tells that a kept one had a media type of another family.
func rewriteLayers(doc *object, layers []Layer, r Rewrite) (mixed bool, err error) {
	list, err := doc.list("layers")
	if err != nil {
		return false, err
	}
	if list == nil {
		list = newArray()
	}
	list.remove(min(r.Kept, len(list.items)), len(list.items))
	for i, l := range layers {
		hint := newLayerHint
		if i < r.Kept {
			hint = keptLayerHint(r.Family)
		}
		value, converted, err := convertDescriptor(l, r.Family, hint)
		if err != nil {
			return false, fmt.Errorf("layer %d (%s): %w", i+1, l.Digest, err)
		}
		mixed = mixed || converted && i < r.Kept
		if i < len(list.items) {
			list.items[i].value = value
		} else {
			list.add(item{value: value})
		}
	}
	doc.set("layers", list.bytes())
	return mixed, nil
}

// convertDescriptor returns the descriptor of a layer in a family, in which
// nothing but the media type may differ.
func convertDescriptor(l Layer, family types.MediaType, hint string) (raw json.RawMessage, converted bool, err error) {
	d, err := parseDescriptor(l.Descriptor)
	if err != nil {
		return nil, false, err
	}
	mediaType, err := convertLayerType(d.MediaType, family, hint)
	if err != nil || mediaType == d.MediaType {
		return l.Descriptor, false, err
	}
	o, err := parseObject(l.Descriptor, descriptorFields...)
	if err != nil {
		return nil, false, err
	}
	o.set("mediaType", quoteJSON(string(mediaType)))
	return o.bytes(), true, nil
}

// rewriteBaseAnnotations drops what no longer holds about the base, and says
// what is known of it.
func rewriteBaseAnnotations(doc *object, r Rewrite) error {
	known := r.Kept > 0 && r.Family == types.OCIManifestSchema1 && (r.BaseName != "" || r.BaseDigest != (v1.Hash{}))
	if r.Kept > 0 && !known {
		return nil
	}
	annotations, err := doc.stringMap("annotations")
	if err != nil {
		return err
	}
	before := len(annotations.items)
	annotations.delete(baseNameAnnotation)
	annotations.delete(baseDigestAnnotation)
	if known && r.BaseName != "" {
		annotations.set(baseNameAnnotation, quoteJSON(r.BaseName))
	}
	if known && r.BaseDigest != (v1.Hash{}) {
		annotations.set(baseDigestAnnotation, quoteJSON(r.BaseDigest.String()))
	}
	doc.putMap("annotations", annotations, before)
	return nil
}
