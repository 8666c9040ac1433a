package image

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Media types that go-containerregistry has no name for.
const (
	// OCI and Docker manifests may hold zstd layers that are not distributable.
	ociRestrictedLayerZstd = types.OCIUncompressedRestrictedLayer + "+zstd"
	// containerd writes and reads these beside those of Docker's specification.
	dockerLayerZstd                = types.DockerUncompressedLayer + ".zstd"
	dockerForeignLayerUncompressed = types.MediaType("application/vnd.docker.image.rootfs.foreign.diff.tar")
	dockerForeignLayerZstd         = dockerForeignLayerUncompressed + ".zstd"
)

// The fields that are read, which may not appear in another case.
var (
	descriptorFields = []string{"mediaType", "digest", "size", "urls", "annotations", "data", "artifactType", "platform"}
	platformFields   = []string{"architecture", "os", "os.version", "os.features", "variant"}
	documentFields   = []string{"schemaVersion", "mediaType", "artifactType", "config", "layers", "subject", "annotations", "manifests", "fsLayers", "history"}
	configFields     = []string{"architecture", "os", "os.version", "os.features", "variant", "created", "config", "rootfs", "history"}
	rootFSFields     = []string{"type", "diff_ids"}
	historyFields    = []string{"created", "created_by", "author", "comment", "empty_layer"}
)

// descriptor points to a blob or manifest by its digest.
// https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md
type descriptor struct {
	// Raw is the descriptor as its document has it.
	Raw       json.RawMessage
	MediaType types.MediaType
	Digest    v1.Hash
	Size      int64
	// URLs are never fetched.
	URLs        []string
	Annotations map[string]string
	// Data is the embedded content, whose digest and size were verified; nil
	// if there is none.
	Data         []byte
	ArtifactType string
	// Platform is nil if the descriptor has none.
	Platform *v1.Platform
}

// manifestDoc is what is needed of an image manifest to open its image.
type manifestDoc struct {
	// MediaType is that of the document, or else the claimed one.
	MediaType types.MediaType
	Config    descriptor
	Layers    []descriptor
}

// indexDoc is what is needed of an image index or manifest list.
type indexDoc struct {
	// MediaType is what the document says; empty if it says nothing. Where a
	// descriptor led here, compare with checkMediaType.
	MediaType types.MediaType
	// Manifests are in the order of the document, each as often as it is
	// there; some may be indexes, some of unknown types.
	Manifests []descriptor
}

// parseManifest validates the manifest of an image and returns its
// descriptors. claimed is the media type of the descriptor that led here, or
// empty if nothing claimed one. Whatever is not an image for a container
// engine is a *HintError.
func parseManifest(raw []byte, claimed types.MediaType) (manifestDoc, error) {
	doc, err := parseDocument(raw)
	if err != nil {
		return manifestDoc{}, err
	}
	var m manifestDoc
	if m.MediaType, err = statedType(doc, claimed); err != nil {
		return m, err
	}
	if err := refuseMembers(doc, "an image manifest", "manifests", "fsLayers", "history"); err != nil {
		return m, err
	}
	if err := checkArtifactType(doc); err != nil {
		return m, err
	}
	if m.Config, err = requiredDescriptor(doc, "config"); err != nil {
		return m, err
	}
	if m.MediaType == "" {
		m.MediaType = familyOf(m.Config.MediaType)
	}
	if err := checkConfigType(m.Config.MediaType); err != nil {
		return m, err
	}
	m.Layers, err = requiredDescriptors(doc, "layers")
	if err != nil {
		return m, err
	}
	for i, l := range m.Layers {
		if err := checkLayerType(l.MediaType); err != nil {
			return m, fmt.Errorf("layer %d (%s): %w", i+1, l.Digest, err)
		}
	}
	return m, nil
}

// parseIndex validates an image index, a manifest list, or the index.json of
// an image layout. Descriptors of any media type are taken.
func parseIndex(raw []byte) (indexDoc, error) {
	doc, err := parseDocument(raw)
	if err != nil {
		return indexDoc{}, err
	}
	mt, err := doc.text("mediaType")
	if err != nil {
		return indexDoc{}, err
	}
	idx := indexDoc{MediaType: types.MediaType(mt)}
	if mt != "" && !idx.MediaType.IsIndex() {
		return idx, fmt.Errorf("media type %.100q is not that of an image index", mt)
	}
	if err := refuseMembers(doc, "an image index", "config", "layers", "fsLayers", "history"); err != nil {
		return idx, err
	}
	idx.Manifests, err = requiredDescriptors(doc, "manifests")
	return idx, err
}

// parseDocument takes a manifest or index apart.
func parseDocument(raw []byte) (*object, error) {
	if err := checkDocument(raw, maxManifestSize); err != nil {
		return nil, err
	}
	doc, err := parseObject(raw, documentFields...)
	if err != nil {
		return nil, err
	}
	version, ok, err := doc.integer("schemaVersion")
	switch {
	case err != nil:
		return nil, err
	case version == 1:
		return nil, errSchema1()
	case !ok:
		return nil, errors.New(`"schemaVersion" is missing`)
	case version != 2:
		return nil, fmt.Errorf("schema version %d is unknown", version)
	}
	return doc, nil
}

func errSchema1() error {
	return &HintError{
		Err:  errors.New("the manifest is of the obsolete schema 1, which has neither config nor diffIDs"),
		Hint: "convert the image first: skopeo copy --format v2s2 docker://SOURCE docker-archive:FILE",
	}
}

// statedType returns the media type of a manifest of schema 2: claimed and
// stated have to agree, each may be missing.
func statedType(doc *object, claimed types.MediaType) (types.MediaType, error) {
	text, err := doc.text("mediaType")
	if err != nil {
		return "", err
	}
	stated := types.MediaType(text)
	if claimed.IsSchema1() || stated.IsSchema1() {
		return "", errSchema1()
	}
	if err := checkMediaType(claimed, stated); err != nil {
		return "", err
	}
	if stated == "" {
		stated = claimed
	}
	if stated != "" && !stated.IsImage() {
		return "", fmt.Errorf("media type %.100q is not that of an image manifest", stated)
	}
	return stated, nil
}

// checkMediaType checks that a document states the media type that its
// descriptor claims. Either may be empty.
func checkMediaType(claimed, stated types.MediaType) error {
	if claimed != "" && stated != "" && claimed != stated {
		return fmt.Errorf("the document's media type is %.100q, its descriptor says %.100q", stated, claimed)
	}
	return nil
}

// refuseMembers refuses a document that another reader could take for another
// kind: CVE-2021-41190.
func refuseMembers(doc *object, kind string, names ...string) error {
	for _, n := range names {
		if doc.get(n) != nil {
			return fmt.Errorf("ambiguous document: %s has no %q", kind, n)
		}
	}
	return nil
}

func checkArtifactType(doc *object) error {
	t, err := doc.text("artifactType")
	if err == nil && t != "" {
		err = errArtifact("artifact type", t)
	}
	return err
}

func checkConfigType(t types.MediaType) error {
	if !t.IsConfig() {
		return errArtifact("config of media type", string(t))
	}
	return nil
}

func errArtifact(what, value string) error {
	return &HintError{
		Err:  fmt.Errorf("an artifact and not a container image (%s %.100q)", what, value),
		Hint: "copy artifacts as they are, with oras cp or skopeo copy",
	}
}

// checkLayerType refuses what is no layer of an image, or no longer a tar.
func checkLayerType(t types.MediaType) error {
	if strings.Contains(string(t), "+encrypted") {
		return &HintError{
			Err:  fmt.Errorf("the layer is encrypted (media type %.100q)", t),
			Hint: "decrypt the image first: skopeo copy --decryption-key KEY SOURCE TARGET",
		}
	}
	base, _, _ := strings.Cut(string(t), "+")
	switch types.MediaType(base) {
	case types.OCIUncompressedLayer, types.OCIUncompressedRestrictedLayer,
		types.DockerUncompressedLayer, types.DockerLayer, dockerLayerZstd,
		dockerForeignLayerUncompressed, types.DockerForeignLayer, dockerForeignLayerZstd:
		return nil
	}
	return errArtifact("layer of media type", string(t))
}

// isForeign tells whether a layer's bytes are meant to be elsewhere.
func (d descriptor) isForeign() bool {
	return len(d.URLs) > 0 ||
		strings.HasPrefix(string(d.MediaType), string(types.OCIUncompressedRestrictedLayer)) ||
		strings.HasPrefix(string(d.MediaType), string(dockerForeignLayerUncompressed))
}

// requiredDescriptor returns a descriptor that a document has to have.
func requiredDescriptor(doc *object, name string) (descriptor, error) {
	raw := doc.get(name)
	if raw == nil {
		return descriptor{}, fmt.Errorf("%q is missing", name)
	}
	d, err := parseDescriptor(raw)
	if err != nil {
		return d, fmt.Errorf("%q: %w", name, err)
	}
	return d, nil
}

// requiredDescriptors returns a list of descriptors that a document has to have. It may be
// null, which is how Go encodes none.
func requiredDescriptors(doc *object, name string) ([]descriptor, error) {
	if doc.index(name) < 0 {
		return nil, fmt.Errorf("%q is missing", name)
	}
	list, err := doc.list(name)
	if list == nil || err != nil {
		return nil, err
	}
	out := make([]descriptor, len(list.items))
	for i, m := range list.items {
		if out[i], err = parseDescriptor(m.value); err != nil {
			return nil, fmt.Errorf("%q: element %d: %w", name, i+1, err)
		}
	}
	return out, nil
}

// parseDescriptor validates one descriptor and the data that it may embed.
func parseDescriptor(raw json.RawMessage) (descriptor, error) {
	o, err := parseObject(raw, descriptorFields...)
	if err != nil {
		return descriptor{}, err
	}
	d := descriptor{Raw: raw}
	mediaType, err1 := o.text("mediaType")
	digest, err2 := o.text("digest")
	size, sized, err3 := o.integer("size")
	artifact, err4 := o.text("artifactType")
	urls, err5 := o.texts("urls")
	annotations, err6 := o.annotations("annotations")
	data, err7 := o.data("data")
	platform, err8 := o.platform()
	if err := cmp.Or(err1, err2, err3, err4, err5, err6, err7, err8); err != nil {
		return d, err
	}
	d.MediaType, d.ArtifactType = types.MediaType(mediaType), artifact
	d.URLs, d.Annotations, d.Data, d.Platform, d.Size = urls, annotations, data, platform, size
	if d.Digest, err = parseDigest(digest); err != nil {
		return d, err
	}
	switch {
	case !sized:
		return d, errors.New(`"size" is missing`)
	case size < 0:
		return d, fmt.Errorf("size %d is negative", size)
	case data == nil:
		return d, nil
	}
	if err := d.verify(data); err != nil {
		return d, fmt.Errorf(`"data": %w`, err)
	}
	return d, nil
}

// platform returns the member of a descriptor; nil if it is absent or null.
func (o *object) platform() (*v1.Platform, error) {
	raw := o.get("platform")
	if raw == nil {
		return nil, nil
	}
	p, err := parseObject(raw, platformFields...)
	if err != nil {
		return nil, fmt.Errorf(`"platform": %w`, err)
	}
	out, err := platformOf(p)
	if err != nil {
		return nil, fmt.Errorf(`"platform": %w`, err)
	}
	return &out, nil
}

// platformOf reads the members that a config and a descriptor's platform share.
func platformOf(o *object) (v1.Platform, error) {
	var p v1.Platform
	var err error
	for _, f := range []struct {
		name string
		to   *string
	}{
		{"architecture", &p.Architecture}, {"os", &p.OS}, {"os.version", &p.OSVersion}, {"variant", &p.Variant},
	} {
		if *f.to, err = o.text(f.name); err != nil {
			return p, err
		}
	}
	p.OSFeatures, err = o.texts("os.features")
	return p, err
}

// parseDigest reads a digest of an algorithm that can be verified here:
// sha256 or sha512.
func parseDigest(s string) (v1.Hash, error) {
	h, err := v1.NewHash(s)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("%.150q is not a digest of sha256 or sha512", s)
	}
	return h, nil
}

// verify checks that content is what the descriptor points to.
func (d descriptor) verify(content []byte) error {
	if int64(len(content)) != d.Size {
		return fmt.Errorf("%d bytes where the descriptor says %d", len(content), d.Size)
	}
	got, err := hashAs(d.Digest.Algorithm, content)
	if err != nil {
		return err
	}
	if got != d.Digest {
		return fmt.Errorf("the content has digest %s, the descriptor says %s", got, d.Digest)
	}
	return nil
}

// hashAs returns the digest of content by an algorithm.
func hashAs(algorithm string, content []byte) (v1.Hash, error) {
	h, err := v1.Hasher(algorithm)
	if err != nil {
		return v1.Hash{}, err
	}
	h.Write(content)
	return v1.Hash{Algorithm: algorithm, Hex: fmt.Sprintf("%x", h.Sum(nil))}, nil
}

// newImage validates a manifest and its config together and returns their
// image, whose layers have no Open yet. ref names the image in errors. digest
// is the manifest's, or zero if nothing claimed one; mediaType is what its
// descriptor claims, or empty.
func newImage(ref string, digest v1.Hash, mediaType types.MediaType, manifest, config []byte) (*Image, error) {
	img, err := buildImage(digest, mediaType, manifest, config)
	if err != nil {
		return nil, fmt.Errorf("reading image %q: %w", ref, err)
	}
	img.Ref = ref
	return img, nil
}

func buildImage(digest v1.Hash, mediaType types.MediaType, raw, rawConfig []byte) (*Image, error) {
	algorithm := "sha256"
	if digest != (v1.Hash{}) {
		algorithm = digest.Algorithm
	}
	got, err := hashAs(algorithm, raw)
	if err != nil {
		return nil, err
	}
	if digest != (v1.Hash{}) && got != digest {
		return nil, fmt.Errorf("the manifest has digest %s instead of %s", got, digest)
	}
	m, err := parseManifest(raw, mediaType)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if err := m.Config.verify(rawConfig); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	c, err := parseConfig(rawConfig)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if len(c.diffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("layers length mismatch: the manifest has %d layers, the config %d diffIDs", len(m.Layers), len(c.diffIDs))
	}
	img := &Image{Digest: got, MediaType: m.MediaType, Manifest: raw, Config: rawConfig, Platform: c.platform}
	img.Layers = make([]Layer, len(m.Layers))
	for i, d := range m.Layers {
		img.Layers[i] = Layer{Digest: d.Digest, Size: d.Size, MediaType: d.MediaType, DiffID: c.diffIDs[i], Descriptor: d.Raw, Foreign: d.isForeign()}
	}
	return img, nil
}

// newClassicImage is newImage for an archive that stores no manifest; the
// layers have no Digest. layerSizes are the sizes of the archive's members in
// bytes, bottom first.
func newClassicImage(ref string, config []byte, layerSizes []int64) (*Image, error) {
	c, err := parseConfig(config)
	if err != nil {
		return nil, fmt.Errorf("reading image %q: config: %w", ref, err)
	}
	if len(c.diffIDs) != len(layerSizes) {
		return nil, fmt.Errorf("reading image %q: layers length mismatch: the archive has %d layers, the config %d diffIDs", ref, len(layerSizes), len(c.diffIDs))
	}
	img := &Image{Ref: ref, Config: config, Platform: c.platform, Layers: make([]Layer, len(layerSizes))}
	for i, size := range layerSizes {
		img.Layers[i] = Layer{Size: size, DiffID: c.diffIDs[i]}
	}
	return img, nil
}

// configDoc is an image config taken apart.
// https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md
type configDoc struct {
	doc, rootfs *object
	rawDiffIDs  *array
	diffIDs     []v1.Hash
	history     []historyEntry
	platform    v1.Platform
}

// historyEntry is one entry of a config's history.
type historyEntry struct {
	raw   json.RawMessage
	empty bool // empty_layer
}

// parseConfig validates the config of an image that can be rewritten.
func parseConfig(raw []byte) (configDoc, error) {
	var c configDoc
	if err := checkDocument(raw, maxConfigSize); err != nil {
		return c, err
	}
	var err error
	if c.doc, err = parseObject(raw, configFields...); err != nil {
		return c, err
	}
	if c.platform, err = platformOf(c.doc); err != nil {
		return c, err
	}
	if strings.EqualFold(c.platform.OS, "windows") {
		return c, &HintError{
			Err:  errors.New("images for windows are not supported"),
			Hint: "select another platform with --platform",
		}
	}
	if err := c.parseRootFS(); err != nil {
		return c, fmt.Errorf(`"rootfs": %w`, err)
	}
	if err := c.parseHistory(); err != nil {
		return c, fmt.Errorf(`"history": %w`, err)
	}
	return c, nil
}

func (c *configDoc) parseRootFS() (err error) {
	raw := c.doc.get("rootfs")
	if raw == nil {
		return errors.New("missing: not the config of a container image")
	}
	if c.rootfs, err = parseObject(raw, rootFSFields...); err != nil {
		return err
	}
	kind, err := c.rootfs.text("type")
	if err != nil {
		return err
	}
	if kind != "layers" {
		return fmt.Errorf("type %.100q is not %q", kind, "layers")
	}
	if c.rawDiffIDs, err = c.rootfs.list("diff_ids"); err != nil {
		return err
	}
	ids, err := c.rootfs.texts("diff_ids")
	if err != nil {
		return err
	}
	c.diffIDs = make([]v1.Hash, len(ids))
	for i, id := range ids {
		if c.diffIDs[i], err = parseDigest(id); err != nil {
			return fmt.Errorf("diffID %d: %w", i+1, err)
		}
	}
	return nil
}

func (c *configDoc) parseHistory() error {
	list, err := c.doc.list("history")
	if list == nil || err != nil {
		return err
	}
	for i, m := range list.items {
		e, err := parseObject(m.value, historyFields...)
		if err != nil {
			return fmt.Errorf("entry %d: %w", i+1, err)
		}
		empty, err := e.boolean("empty_layer")
		if err != nil {
			return fmt.Errorf("entry %d: %w", i+1, err)
		}
		c.history = append(c.history, historyEntry{raw: m.value, empty: empty})
	}
	return nil
}

// withLayer counts the history entries that stand for a layer.
func withLayer(history []historyEntry) int {
	n := 0
	for _, e := range history {
		if !e.empty {
			n++
		}
	}
	return n
}

// familyOf returns the manifest media type that goes with a config or layer.
func familyOf(t types.MediaType) types.MediaType {
	if strings.HasPrefix(string(t), "application/"+types.DockerVendorPrefix+".") {
		return types.DockerManifestSchema2
	}
	return types.OCIManifestSchema1
}
