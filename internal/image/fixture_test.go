package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// fixture is an image as raw documents and blobs.
type fixture struct {
	config, manifest []byte
	mediaType        types.MediaType
	blobs            [][]byte // layers as stored
	plain            [][]byte // layers inflated
	platform         string
}

// compressor turns a layer's tar into its blob.
type compressor struct {
	mediaType types.MediaType
	compress  func([]byte) []byte
}

var (
	asTar  = compressor{types.OCIUncompressedLayer, func(b []byte) []byte { return b }}
	asGzip = compressor{types.OCILayer, gzipped}
	asZstd = compressor{types.OCILayerZStd, zstdCompressed}
)

// newFixture builds an image for a platform with one layer per content; what
// is stored is as c says.
func newFixture(platform string, c compressor, contents ...string) fixture {
	f := fixture{mediaType: types.OCIManifestSchema1, platform: platform}
	var diffIDs, layers []string
	for i, content := range contents {
		plain := tarOf(tarFile(fmt.Sprintf("etc/file%d", i), content))
		blob := c.compress(plain)
		f.plain, f.blobs = append(f.plain, plain), append(f.blobs, blob)
		diffIDs = append(diffIDs, fmt.Sprintf("%q", digestOf(plain)))
		layers = append(layers, descriptorJSON(c.mediaType, blob))
	}
	os, arch, _ := strings.Cut(platform, "/")
	arch, variant, _ := strings.Cut(arch, "/")
	f.config = fmt.Appendf(nil, `{"os":%q,"architecture":%q,"variant":%q,"config":{"Healthcheck":{"StartInterval":7}},"rootfs":{"type":"layers","diff_ids":[%s]}}`,
		os, arch, variant, strings.Join(diffIDs, ","))
	f.manifest = fmt.Appendf(nil, "{\n  \"schemaVersion\": 2, \"mediaType\": %q, \"config\": %s, \"layers\": [%s], \"x-unknown\": 12345678901234567890\n}\n",
		f.mediaType, descriptorJSON(types.OCIConfigJSON, f.config), strings.Join(layers, ","))
	return f
}

func descriptorJSON(t types.MediaType, blob []byte) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, t, digestOf(blob), len(blob))
}

// entry is the fixture's descriptor in an index; extra members follow.
func (f fixture) entry(extra ...string) string {
	e := strings.TrimSuffix(descriptorJSON(f.mediaType, f.manifest), "}")
	return strings.Join(append([]string{e}, extra...), ",") + "}"
}

// platformJSON is the member of a descriptor.
func platformJSON(platform string) string {
	os, arch, _ := strings.Cut(platform, "/")
	arch, variant, _ := strings.Cut(arch, "/")
	return fmt.Sprintf(`"platform":{"os":%q,"architecture":%q,"variant":%q}`, os, arch, variant)
}

func refNameJSON(name string) string {
	return fmt.Sprintf(`"annotations":{%q:%q}`, refNameAnnotation, name)
}

func indexOf(entries ...string) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, types.OCIImageIndex, strings.Join(entries, ", "))
}

// image is the fixture as an Image that opens its layers from memory.
func (f fixture) image(t *testing.T) *Image {
	t.Helper()
	img, err := newImage("fixture", digestOf(f.manifest), f.mediaType, f.manifest, f.config)
	if err != nil {
		t.Fatal(err)
	}
	for i := range img.Layers {
		img.Layers[i].Open = opens(f.blobs[i])
	}
	return img
}

func opens(blob []byte) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(blob)), nil }
}

// members are the fixture's blobs as a layout stores them.
func (f fixture) members() []tarMember {
	var m []tarMember
	for _, blob := range append([][]byte{f.manifest, f.config}, f.blobs...) {
		m = append(m, tarFile(blobName(digestOf(blob)), string(blob)))
	}
	return m
}

// layoutMembers are those of a layout with an index and fixtures' blobs.
func layoutMembers(index []byte, fixtures ...fixture) []tarMember {
	m := []tarMember{tarFile(layoutFile, layoutContent), tarFile(layoutIndex, string(index))}
	for _, f := range fixtures {
		m = append(m, f.members()...)
	}
	return m
}

// writeTree writes members below a new directory.
func writeTree(t *testing.T, members ...tarMember) string {
	t.Helper()
	dir := t.TempDir()
	for _, m := range members {
		path := filepath.Join(dir, filepath.FromSlash(m.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(m.content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// tarMember is a header with its content.
type tarMember struct {
	tar.Header
	content string
}

func tarFile(name, content string) tarMember {
	return tarMember{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}, content}
}

func tarLink(typeflag byte, name, target string) tarMember {
	return tarMember{tar.Header{Typeflag: typeflag, Name: name, Linkname: target}, ""}
}

func tarOf(members ...tarMember) []byte {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, m := range members {
		if err := tw.WriteHeader(&m.Header); err != nil {
			panic(err)
		}
		if _, err := io.WriteString(tw, m.content); err != nil {
			panic(err)
		}
	}
	if err := tw.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	_, _ = zw.Write(b)
	_ = zw.Close()
	return out.Bytes()
}

func zstdCompressed(b []byte) []byte {
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return enc.EncodeAll(b, nil)
}

// save writes bytes to a file in a new directory.
func save(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// openImage opens what ref names and returns its image.
func openImage(t *testing.T, ref Ref, platform string, o Options) (*Image, error) {
	t.Helper()
	s, err := Open(t.Context(), ref, o)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { s.Close() })
	return s.Image(t.Context(), platform)
}

// layerBytes reads all layers as stored.
func layerBytes(t *testing.T, img *Image) [][]byte {
	t.Helper()
	var all [][]byte
	for _, l := range img.Layers {
		rc, err := l.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(rc)
		if err != nil {
			t.Fatal(err)
		}
		rc.Close()
		all = append(all, data)
	}
	return all
}

// wantImage checks that an image is the fixture, byte for byte.
func wantImage(t *testing.T, got *Image, f fixture) {
	t.Helper()
	if !bytes.Equal(got.Manifest, f.manifest) {
		t.Errorf("manifest\n%s\nwant\n%s", got.Manifest, f.manifest)
	}
	if got.Digest != digestOf(f.manifest) {
		t.Errorf("digest %s, want %s", got.Digest, digestOf(f.manifest))
	}
	wantContent(t, got, f.config, f.blobs)
}

func wantContent(t *testing.T, got *Image, config []byte, blobs [][]byte) {
	t.Helper()
	if !bytes.Equal(got.Config, config) {
		t.Errorf("config\n%s\nwant\n%s", got.Config, config)
	}
	if !slices.EqualFunc(layerBytes(t, got), blobs, bytes.Equal) {
		t.Error("the layers have other bytes")
	}
}

// wantError checks the text of an error and that it has a hint or none.
func wantError(t *testing.T, err error, text string, hinted bool) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Fatalf("error %v, want one with %q", err, text)
	}
	var hint *HintError
	var usage *UsageError
	if got := errors.As(err, &hint) || errors.As(err, &usage) && usage.Hint != ""; got != hinted {
		t.Errorf("error %q has a hint: %t, want %t", err, got, hinted)
	}
}

// listing is every path below a directory, with sizes of files.
func listing(t *testing.T, dir string) []string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if !d.IsDir() {
			info, err := d.Info()
			if err != nil {
				return err
			}
			rel += fmt.Sprintf(" %d", info.Size())
		}
		paths = append(paths, rel)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// entries decodes the index of a layout.
func entries(t *testing.T, dir string) []json.RawMessage {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, layoutIndex))
	if err != nil {
		t.Fatal(err)
	}
	var index struct{ Manifests []json.RawMessage }
	if err := json.Unmarshal(raw, &index); err != nil {
		t.Fatal(err)
	}
	return index.Manifests
}

// never fails the test if a layer is opened.
func never(t *testing.T) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) {
		t.Error("a layer was opened that the target has")
		return nil, errors.New("opened")
	}
}

// cancelling opens a blob that cancels the context when half of it was read.
func cancelling(blob []byte, cancel func()) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) {
		half := len(blob) / 2
		return io.NopCloser(io.MultiReader(bytes.NewReader(blob[:half]), &callReader{call: cancel}, bytes.NewReader(blob[half:]))), nil
	}
}

// callReader calls a function and is then at its end.
type callReader struct{ call func() }

func (c *callReader) Read([]byte) (int, error) {
	c.call()
	return 0, io.EOF
}
