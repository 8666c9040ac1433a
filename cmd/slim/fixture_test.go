package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"

	"slim/internal/tartest"
)

// recipe tells how an image is made. The zero value of a field is the usual.
type recipe struct {
	// layers are in the notation of tartest; tars are taken in their place.
	layers string
	tars   [][]byte
	// family is that of the manifest: types.OCIManifestSchema1.
	family types.MediaType
	// compression is one for all layers or a list: "gzip", "zstd", "none".
	compression string
	// platform is OS/ARCH[/VARIANT]: "linux/amd64".
	platform string
	// members of the config, each with its comma: `"author":"x",`.
	members string
	// history is that of the config, as JSON; entries for the layers and an
	// empty one.
	history string
	// descriptors are further members of the layers' descriptors.
	descriptors map[int]string
	// editConfig and editManifest change the finished documents.
	editConfig, editManifest func(string) string
}

// fixture is an image as documents and blobs.
type fixture struct {
	mediaType        types.MediaType
	platform         string
	config, manifest []byte
	// plain are the layers inflated, blobs as they are stored.
	plain, blobs [][]byte
	descriptors  []string
}

func (r recipe) build() *fixture {
	f := &fixture{mediaType: r.family, platform: r.platform, plain: r.tars}
	if f.mediaType == "" {
		f.mediaType = types.OCIManifestSchema1
	}
	if f.platform == "" {
		f.platform = "linux/amd64"
	}
	if f.plain == nil {
		f.plain = tartest.Tars(r.layers)
	}
	for i, plain := range f.plain {
		compression := r.compressionOf(i)
		blob := compressed(compression, plain)
		d := descriptorOf(layerType(f.mediaType, compression), blob)
		if more := r.descriptors[i]; more != "" {
			d = strings.TrimSuffix(d, "}") + "," + more + "}"
		}
		f.blobs, f.descriptors = append(f.blobs, blob), append(f.descriptors, d)
	}
	f.config = []byte(edited(r.configText(f), r.editConfig))
	configType := types.OCIConfigJSON
	if f.mediaType == types.DockerManifestSchema2 {
		configType = types.DockerConfigJSON
	}
	f.manifest = []byte(edited(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s],"x-unknown":{"n":12345678901234567890}}`,
		f.mediaType, descriptorOf(configType, f.config), strings.Join(f.descriptors, ",")), r.editManifest))
	return f
}

func edited(text string, edit func(string) string) string {
	if edit == nil {
		return text
	}
	return edit(text)
}

func (r recipe) compressionOf(i int) string {
	if r.compression == "" {
		return "gzip"
	}
	list := strings.Split(r.compression, ",")
	return list[min(i, len(list)-1)]
}

func (r recipe) configText(f *fixture) string {
	var ids, history []string
	for i, plain := range f.plain {
		ids = append(ids, fmt.Sprintf("%q", sha256Of(plain)))
		history = append(history, fmt.Sprintf(`{"created":"2024-01-02T03:04:05Z","created_by":"layer %d"}`, i+1))
	}
	history = append(history, `{"created":"2024-01-02T03:04:05Z","created_by":"CMD","empty_layer":true}`)
	list := "[" + strings.Join(history, ",") + "]"
	if r.history != "" {
		list = r.history
	}
	return fmt.Sprintf(`{"created":"2024-01-02T03:04:05Z",%s%s,"config":{"Cmd":["/bin/sh"]},"rootfs":{"type":"layers","diff_ids":[%s]},"history":%s}`,
		r.members, platformMembers(f.platform), strings.Join(ids, ","), list)
}

func platformMembers(platform string) string {
	parts := strings.Split(platform, "/")
	s := fmt.Sprintf(`"os":%q,"architecture":%q`, parts[0], parts[1])
	if len(parts) > 2 {
		s += fmt.Sprintf(`,"variant":%q`, parts[2])
	}
	return s
}

func layerType(family types.MediaType, compression string) types.MediaType {
	docker := family == types.DockerManifestSchema2
	switch {
	case compression == "gzip" && docker:
		return types.DockerLayer
	case compression == "gzip":
		return types.OCILayer
	case compression == "zstd":
		return types.OCILayerZStd
	case docker:
		return types.DockerUncompressedLayer
	}
	return types.OCIUncompressedLayer
}

func compressed(compression string, b []byte) []byte {
	var out bytes.Buffer
	var w io.WriteCloser
	switch compression {
	case "gzip":
		w = gzip.NewWriter(&out)
	case "zstd":
		z, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
		if err != nil {
			panic(err)
		}
		w = z
	default:
		return b
	}
	if _, err := w.Write(b); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

func inflated(t *testing.T, b []byte) []byte {
	t.Helper()
	var r io.Reader = bytes.NewReader(b)
	var err error
	switch {
	case bytes.HasPrefix(b, []byte("\x1f\x8b")):
		r, err = gzip.NewReader(r)
	case bytes.HasPrefix(b, []byte("\x28\xb5\x2f\xfd")):
		r, err = zstd.NewReader(r)
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func sha256Of(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

func hexOf(b []byte) string { return strings.TrimPrefix(sha256Of(b), "sha256:") }

func descriptorOf(mediaType types.MediaType, blob []byte) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, sha256Of(blob), len(blob))
}

// entry is the fixture's descriptor in an index, with further members.
func (f *fixture) entry(members ...string) string {
	d := strings.TrimSuffix(descriptorOf(f.mediaType, f.manifest), "}")
	return strings.Join(append([]string{d}, members...), ",") + "}"
}

// platformEntry is the fixture's descriptor in an index of several platforms.
func (f *fixture) platformEntry() string {
	return f.entry(`"platform":{` + platformMembers(f.platform) + `}`)
}

func named(name string) string {
	return fmt.Sprintf(`"annotations":{"org.opencontainers.image.ref.name":%q}`, name)
}

func indexOf(entries ...string) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, types.OCIImageIndex, strings.Join(entries, ","))
}

// files are named contents, in order.
type files []struct {
	name    string
	content []byte
}

func (fs *files) add(name string, content []byte) {
	*fs = append(*fs, struct {
		name    string
		content []byte
	}{name, content})
}

func (fs files) tar() []byte {
	var entries []tartest.Entry
	for _, f := range fs {
		entries = append(entries, tartest.Entry{
			Header: tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o644, Size: int64(len(f.content))}, Body: string(f.content),
		})
	}
	return tartest.Tar(entries...)
}

func (fs files) save(s *sandbox, dir string) {
	s.t.Helper()
	for _, f := range fs {
		s.write(filepath.Join(dir, filepath.FromSlash(f.name)), f.content)
	}
}

func blobName(digest string) string { return "blobs/" + strings.Replace(digest, ":", "/", 1) }

// layoutOf is an OCI image layout with an index and the blobs of fixtures.
func layoutOf(index []byte, fixtures ...*fixture) files {
	var fs files
	fs.add("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	fs.add("index.json", index)
	for _, f := range fixtures {
		for _, blob := range append([][]byte{f.manifest, f.config}, f.blobs...) {
			fs.add(blobName(sha256Of(blob)), blob)
		}
	}
	return fs
}

// layout is one with the fixture alone, under a name.
func (f *fixture) layout(name string) files {
	return layoutOf(indexOf(f.entry(named(name))), f)
}

// dockerArchiveOf is what docker save wrote before version 25.
func dockerArchiveOf(images ...savedImage) []byte {
	var fs files
	var elements []any
	for n, i := range images {
		var layers []string
		for k, plain := range i.f.plain {
			name := fmt.Sprintf("%d-%d/layer.tar", n, k)
			fs.add(name, plain)
			layers = append(layers, name)
		}
		config := hexOf(i.f.config) + ".json"
		fs.add(config, i.f.config)
		elements = append(elements, map[string]any{"Config": config, "RepoTags": i.tags, "Layers": layers})
	}
	fs.add("manifest.json", encoded(elements))
	return fs.tar()
}

// savedImage is an image with the names under which an archive has it.
type savedImage struct {
	f    *fixture
	tags []string
}

func (f *fixture) dockerArchive(tags ...string) []byte { return dockerArchiveOf(savedImage{f, tags}) }

// dockerArchive25 is what docker save has written since version 25: a layout
// with a manifest.json beside its index.
func (f *fixture) dockerArchive25(tags ...string) []byte {
	fs := layoutOf(indexOf(f.entry()), f)
	var layers []string
	for _, b := range f.blobs {
		layers = append(layers, blobName(sha256Of(b)))
	}
	fs.add("manifest.json", encoded([]any{map[string]any{
		"Config": blobName(sha256Of(f.config)), "RepoTags": tags, "Layers": layers,
	}}))
	return fs.tar()
}

func encoded(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// stored is an image as a target has it.
type stored struct {
	mediaType        string
	manifest, config []byte
	// layers are descriptors; an archive of docker save has none.
	layers []json.RawMessage
	blobs  [][]byte
	tags   []string
}

// digest is that of the manifest, or of the config where there is none.
func (i *stored) digest() string {
	if i.manifest == nil {
		return sha256Of(i.config)
	}
	return sha256Of(i.manifest)
}

// listings are the layers in the notation of tartest.
func (i *stored) listings(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, b := range i.blobs {
		l, err := tartest.Listing(inflated(t, b))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, l)
	}
	return out
}

// wantLayers checks the layers and that the config knows them.
func (i *stored) wantLayers(t *testing.T, listings ...string) {
	t.Helper()
	if got := i.listings(t); strings.Join(got, " | ") != strings.Join(listings, " | ") {
		t.Errorf("layers %q\nwant   %q", got, listings)
	}
	var ids []string
	for _, b := range i.blobs {
		ids = append(ids, sha256Of(inflated(t, b)))
	}
	c := i.parseConfig(t)
	if strings.Join(c.RootFS.DiffIDs, " ") != strings.Join(ids, " ") {
		t.Errorf("diffIDs %q, the layers have %q", c.RootFS.DiffIDs, ids)
	}
	inHistory := 0
	for _, h := range c.History {
		if !h.Empty {
			inHistory++
		}
	}
	if inHistory != len(ids) {
		t.Errorf("the history has entries for %d layers, there are %d:\n%s", inHistory, len(ids), i.config)
	}
}

type configDoc struct {
	RootFS struct {
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
	History []struct {
		CreatedBy string `json:"created_by"`
		Empty     bool   `json:"empty_layer"`
	} `json:"history"`
}

func (i *stored) parseConfig(t *testing.T) configDoc {
	t.Helper()
	var c configDoc
	if err := json.Unmarshal(i.config, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// layerTypes are the media types of the layers.
func (i *stored) layerTypes(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, l := range i.layers {
		out = append(out, parseDescriptor(t, l).MediaType)
	}
	return out
}

type descriptorDoc struct {
	MediaType, Digest string
	Size              int64
	Annotations       map[string]string
}

func parseDescriptor(t *testing.T, raw []byte) descriptorDoc {
	t.Helper()
	var d descriptorDoc
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// assemble reads an image of a manifest whose blobs get returns, and checks them.
func assemble(t *testing.T, manifest []byte, get func(digest string) []byte) *stored {
	t.Helper()
	var m struct {
		MediaType string
		Config    descriptorDoc
		Layers    []json.RawMessage
	}
	if err := json.Unmarshal(manifest, &m); err != nil {
		t.Fatal(err)
	}
	fetch := func(d descriptorDoc) []byte {
		b := get(d.Digest)
		if sha256Of(b) != d.Digest || int64(len(b)) != d.Size {
			t.Errorf("blob %s of %d bytes has %d bytes and the digest %s", d.Digest, d.Size, len(b), sha256Of(b))
		}
		return b
	}
	i := &stored{mediaType: m.MediaType, manifest: manifest, layers: m.Layers, config: fetch(m.Config)}
	for _, l := range m.Layers {
		i.blobs = append(i.blobs, fetch(parseDescriptor(t, l)))
	}
	return i
}

// ofLayout reads the image of a name in a layout that open reads.
func ofLayout(t *testing.T, name string, open func(name string) []byte) *stored {
	t.Helper()
	var index struct{ Manifests []descriptorDoc }
	if err := json.Unmarshal(open("index.json"), &index); err != nil {
		t.Fatal(err)
	}
	for _, d := range index.Manifests {
		if d.Annotations["org.opencontainers.image.ref.name"] == name {
			get := func(digest string) []byte { return open(blobName(digest)) }
			return assemble(t, onlyChild(t, get(d.Digest), get), get)
		}
	}
	t.Fatalf("no image %q in %+v", name, index)
	return nil
}

// onlyChild returns the manifest below an index of one image, and any other document
// as it is.
func onlyChild(t *testing.T, doc []byte, get func(digest string) []byte) []byte {
	t.Helper()
	var index struct{ Manifests []descriptorDoc }
	if err := json.Unmarshal(doc, &index); err != nil {
		t.Fatal(err)
	}
	if len(index.Manifests) != 1 {
		return doc
	}
	return get(index.Manifests[0].Digest)
}

// layoutImage reads an image of a layout folder.
func (s *sandbox) layoutImage(dir, name string) *stored {
	s.t.Helper()
	return ofLayout(s.t, name, func(file string) []byte { return []byte(s.read(filepath.Join(dir, file))) })
}

// members reads a tar into memory.
func members(t *testing.T, b []byte) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	tr := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if out[h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
	}
}

// ofOCIArchive reads an image of a layout in a tar.
func ofOCIArchive(t *testing.T, b []byte, name string) *stored {
	t.Helper()
	all := members(t, b)
	return ofLayout(t, name, func(file string) []byte { return all[file] })
}

// ofDockerArchive reads the one image of a docker-archive.
func ofDockerArchive(t *testing.T, b []byte) *stored {
	t.Helper()
	all := members(t, b)
	var images []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(all["manifest.json"], &images); err != nil || len(images) != 1 {
		t.Fatalf("manifest.json %q: %v", all["manifest.json"], err)
	}
	i := &stored{config: all[images[0].Config], tags: images[0].RepoTags}
	for _, l := range images[0].Layers {
		i.blobs = append(i.blobs, all[l])
	}
	return i
}
