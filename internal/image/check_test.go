package image

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// docs are the documents of an image as text. In manifest, CONFIGDIGEST,
// CONFIGSIZE and CONFIGDATA stand for those of config.
type docs struct {
	manifest, config string
	mediaType        types.MediaType
}

// diffID returns the diffID of a made-up layer.
func diffID(n int) string { return digestOf(fmt.Appendf(nil, "diff %d", n)).String() }

// blobDigest returns the digest of a made-up layer's blob.
func blobDigest(n int) string { return digestOf(fmt.Appendf(nil, "blob %d", n)).String() }

// layerJSON is the descriptor of a made-up layer, with more members.
func layerJSON(t types.MediaType, n int, more string) string {
	return fmt.Sprintf(`{"mediaType": %q, "size":%d , "digest":%q%s}`, t, 100+n, blobDigest(n), more)
}

// quotedIDs are the diffIDs of n layers as the elements of an array.
func quotedIDs(n int) string {
	var ids []string
	for i := range n {
		ids = append(ids, fmt.Sprintf("%q", diffID(i)))
	}
	return strings.Join(ids, ", ")
}

// ociDocs are the documents of a plain OCI image of two layers.
func ociDocs() docs {
	return docs{
		mediaType: types.OCIManifestSchema1,
		manifest: `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",` +
			`"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"CONFIGDIGEST","size":CONFIGSIZE},` +
			`"layers":[` + layerJSON(types.OCILayer, 0, "") + `,` + layerJSON(types.OCILayerZStd, 1, "") + `]}`,
		config: `{"created":"2020-01-02T03:04:05Z","architecture":"arm64","variant":"v8","os":"linux","rootfs":{"type":"layers","diff_ids":[` + quotedIDs(2) + `]},` +
			`"history":[{"created_by":"ADD"},{"created_by":"ENV","empty_layer":true},{"created_by":"RUN"}]}`,
	}
}

// dockerDocs are the documents of a plain Docker image of two layers.
func dockerDocs() docs {
	d := ociDocs()
	d.mediaType = types.DockerManifestSchema2
	d.manifest = strings.NewReplacer(
		string(types.OCIManifestSchema1), string(types.DockerManifestSchema2),
		string(types.OCIConfigJSON), string(types.DockerConfigJSON),
		string(types.OCILayerZStd), string(types.DockerUncompressedLayer),
		string(types.OCILayer), string(types.DockerLayer),
	).Replace(d.manifest)
	return d
}

// replaced returns the documents with one text in place of another, which has
// to be in one of them.
func (d docs) replaced(t *testing.T, old, new string) docs {
	t.Helper()
	if !strings.Contains(d.manifest+d.config, old) {
		t.Fatalf("%q is not in the documents", old)
	}
	d.manifest = strings.ReplaceAll(d.manifest, old, new)
	d.config = strings.ReplaceAll(d.config, old, new)
	return d
}

// complete fills what the manifest says about the config.
func (d docs) complete() []byte {
	config := []byte(d.config)
	return []byte(strings.NewReplacer(
		"CONFIGDIGEST", digestOf(config).String(), "CONFIGSIZE", fmt.Sprint(len(config)),
		"CONFIGDATA", base64.StdEncoding.EncodeToString(config),
	).Replace(d.manifest))
}

// open makes the image of the documents.
func (d docs) open() (*Image, error) {
	m := d.complete()
	return newImage("img", digestOf(m), d.mediaType, m, []byte(d.config))
}

// mustOpen is open for documents that are good.
func (d docs) mustOpen(t *testing.T) *Image {
	t.Helper()
	img, err := d.open()
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestNewImage(t *testing.T) {
	d := ociDocs().replaced(t, `"digest":"`+blobDigest(1), `"urls":["https://example.com/l"],"digest":"`+blobDigest(1))
	img := d.mustOpen(t)
	if img.Ref != "img" || img.Digest != digestOf(img.Manifest) || img.MediaType != types.OCIManifestSchema1 || string(img.Config) != d.config {
		t.Errorf("image %+v", img)
	}
	if got := img.Platform.String(); got != "linux/arm64/v8" {
		t.Errorf("platform %s", got)
	}
	if len(img.Layers) != 2 {
		t.Fatalf("%d layers", len(img.Layers))
	}
	for i, l := range img.Layers {
		if l.Digest.String() != blobDigest(i) || l.Size != int64(100+i) || l.DiffID.String() != diffID(i) || l.Foreign != (i == 1) || l.Open != nil {
			t.Errorf("layer %d: %+v", i+1, l)
		}
		if !strings.Contains(string(img.Manifest), string(l.Descriptor)) {
			t.Errorf("layer %d: descriptor %s is not the manifest's", i+1, l.Descriptor)
		}
	}
	if img.Layers[1].MediaType != types.OCILayerZStd {
		t.Errorf("media type %s", img.Layers[1].MediaType)
	}
}

// TestNewImageTakes has what is odd and yet no reason to refuse an image.
func TestNewImageTakes(t *testing.T) {
	mediaType := `"mediaType":"application/vnd.oci.image.manifest.v1+json",`
	for _, tt := range []struct {
		name     string
		docs     docs
		old, new string
		want     types.MediaType
	}{
		{"OCI", ociDocs(), "", "", types.OCIManifestSchema1},
		{"Docker", dockerDocs(), "", "", types.DockerManifestSchema2},
		{"no media type in the document", ociDocs(), mediaType, "", types.OCIManifestSchema1},
		{"null media type in the document", ociDocs(), mediaType, `"mediaType":null,`, types.OCIManifestSchema1},
		{"null annotations", ociDocs(), mediaType, mediaType + `"annotations":null,`, types.OCIManifestSchema1},
		{"null manifests", ociDocs(), mediaType, mediaType + `"manifests":null,`, types.OCIManifestSchema1},
		{"annotations that differ by case", ociDocs(), mediaType, mediaType + `"annotations":{"a":"1","A":"2"},`, types.OCIManifestSchema1},
		{"doubles where nothing is read", ociDocs(), mediaType, mediaType + `"x":{"a":1,"a":2,"A":3},`, types.OCIManifestSchema1},
		{"subject", ociDocs(), mediaType, mediaType + `"subject":{"mediaType":"x","size":1,"digest":"` + blobDigest(1) + `"},`, types.OCIManifestSchema1},
		{"config data", ociDocs(), `"size":CONFIGSIZE`, `"size":CONFIGSIZE,"data":"CONFIGDATA"`, types.OCIManifestSchema1},
		{"OCI layers in a Docker manifest", dockerDocs(), string(types.DockerLayer), string(types.OCILayer), types.DockerManifestSchema2},
		{"zstd in a Docker manifest", dockerDocs(), string(types.DockerLayer), string(dockerLayerZstd), types.DockerManifestSchema2},
		{"unknown compression", ociDocs(), "tar+zstd", "tar+br", types.OCIManifestSchema1},
		{"repeated diffIDs", ociDocs(), diffID(1), diffID(0), types.OCIManifestSchema1},
		{"history of another length", ociDocs(), `{"created_by":"ADD"},`, "", types.OCIManifestSchema1},
		{"unknown architecture", ociDocs(), `"architecture":"arm64",`, "", types.OCIManifestSchema1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := tt.docs
			if tt.old != "" {
				d = d.replaced(t, tt.old, tt.new)
			}
			if img := d.mustOpen(t); img.MediaType != tt.want {
				t.Errorf("media type %s, want %s", img.MediaType, tt.want)
			}
		})
	}
	t.Run("no layers", func(t *testing.T) {
		for _, none := range []string{"[]", "null"} {
			d := ociDocs()
			d.manifest = d.manifest[:strings.Index(d.manifest, `[{"mediaType"`)] + none + "}"
			if img := d.replaced(t, quotedIDs(2), "").mustOpen(t); len(img.Layers) != 0 {
				t.Errorf("%s: %d layers", none, len(img.Layers))
			}
		}
	})
	t.Run("nothing claimed", func(t *testing.T) {
		for _, d := range []docs{ociDocs(), dockerDocs()} {
			want := d.mediaType
			d.mediaType = ""
			for _, d := range []docs{d, d.replaced(t, `"mediaType":"`+string(want)+`",`, "")} {
				if img := d.mustOpen(t); img.MediaType != want {
					t.Errorf("media type %s, want %s", img.MediaType, want)
				}
			}
		}
	})
}

func TestNewImageRefused(t *testing.T) {
	first := `"layers":[`
	id := blobDigest(0)
	for _, tt := range []struct{ name, old, new, msg, hint string }{
		// What is no image of layers that can be read.
		{"schema 1", `"schemaVersion":2`, `"schemaVersion":1`, "obsolete schema 1", "skopeo copy"},
		{"encrypted layer", "tar+zstd", "tar+zstd+encrypted", "layer 2 (" + blobDigest(1) + "): the layer is encrypted", "--decryption-key"},
		{"windows", `"os":"linux"`, `"os":"windows"`, "images for windows are not supported", "--platform"},
		{"Windows in another case", `"os":"linux"`, `"os":"Windows"`, "images for windows are not supported", "--platform"},
		{"artifact type", `"schemaVersion":2`, `"artifactType":"application/x-sbom","schemaVersion":2`, `an artifact and not a container image (artifact type "application/x-sbom")`, "oras"},
		{"empty config", string(types.OCIConfigJSON), string(types.OCIEmptyJSON), "an artifact and not a container image", "oras"},
		{"config of a chart", string(types.OCIConfigJSON), "application/vnd.cncf.helm.config.v1+json", "an artifact", "skopeo copy"},
		{"attestation", "application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.in-toto+json", `layer of media type "application/vnd.in-toto+json"`, "oras"},
		{"layer that is no tar", "layer.v1.tar+zstd", "layer.v1.squashfs", "layer 2", "oras"},
		{"layer without a media type", `"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", `, "", `layer of media type ""`, "oras"},
		// What another reader may read as something else.
		{"manifest and index", `"schemaVersion":2`, `"manifests":[],"schemaVersion":2`, `an image manifest has no "manifests"`, ""},
		{"manifest and schema 1", `"schemaVersion":2`, `"fsLayers":[],"schemaVersion":2`, `an image manifest has no "fsLayers"`, ""},
		{"layers twice", first, `"layers":[],"layers":[`, `member "layers" appears twice`, ""},
		{"layers in another case", first, `"LAYERS":[],"layers":[`, `ambiguous member "LAYERS": it differs from "layers" only by case`, ""},
		{"layers in another case only", first, `"Layers":[`, `ambiguous member "Layers"`, ""},
		{"digest twice", `"digest":"` + id, `"digest":"` + blobDigest(7) + `","digest":"` + id, `"layers": element 1: member "digest" appears twice`, ""},
		{"urls in another case", `"digest":"` + id, `"URLs":["x"],"digest":"` + id, `ambiguous member "URLs"`, ""},
		{"annotation twice", `"digest":"` + id, `"annotations":{"a":"","a":""},"digest":"` + id, `member "a" appears twice`, ""},
		{"rootfs twice", `"rootfs":{`, `"rootfs":{},"rootfs":{`, `config: member "rootfs" appears twice`, ""},
		{"rootfs in another case", `"rootfs":{`, `"RootFS":{`, `ambiguous member "RootFS"`, ""},
		{"diff_ids in another case", `"diff_ids":[`, `"Diff_IDs":[],"diff_ids":[`, "ambiguous member", ""},
		{"empty_layer twice", `"empty_layer":true`, `"empty_layer":false,"empty_layer":true`, `"history": entry 2: member "empty_layer" appears twice`, ""},
		{"empty_layer in another case", `"empty_layer":true`, `"Empty_Layer":true`, "ambiguous member", ""},
		// What does not belong together.
		{"media type", `"application/vnd.oci.image.manifest.v1+json"`, `"application/vnd.docker.distribution.manifest.v2+json"`, "the document's media type is", ""},
		{"config digest", `"digest":"CONFIGDIGEST"`, `"digest":"` + id + `"`, "config: the content has digest", ""},
		{"config size", `"size":CONFIGSIZE`, `"size":1`, "bytes where the descriptor says 1", ""},
		{"config data", `"size":CONFIGSIZE`, `"size":CONFIGSIZE,"data":"AAAA"`, `"data": 3 bytes where`, ""},
		{"layer data", `"digest":"` + id, `"data":"AAAA","digest":"` + id, `"layers": element 1: "data": 3 bytes where the descriptor says 100`, ""},
		{"fewer diffIDs", ", " + fmt.Sprintf("%q", diffID(1)), "", "layers length mismatch: the manifest has 2 layers, the config 1 diffIDs", ""},
		{"more diffIDs", quotedIDs(2), quotedIDs(3), "layers length mismatch: the manifest has 2 layers, the config 3 diffIDs", ""},
		{"null diffIDs", "[" + quotedIDs(2) + "]", "null", "layers length mismatch", ""},
		// What is not as specified.
		{"no schema version", `"schemaVersion":2,`, "", `"schemaVersion" is missing`, ""},
		{"schema version", `"schemaVersion":2`, `"schemaVersion":3`, "schema version 3 is unknown", ""},
		{"no config", `"config":{"mediaType"`, `"konfig":{"mediaType"`, `"config" is missing`, ""},
		{"null config", `"config":{"mediaType"`, `"config":null,"x":{"mediaType"`, `"config" is missing`, ""},
		{"no layers", first, `"lairs":[`, `"layers" is missing`, ""},
		{"layers an object", first, `"layers":{},"x":[`, `"layers": an object where an array is expected`, ""},
		{"short digest", id, "sha256:12", `"sha256:12" is not a digest`, ""},
		{"upper-case digest", id, "sha256:" + strings.Repeat("A", 64), "is not a digest", ""},
		{"unknown algorithm", id, "md5:d41d8cd98f00b204e9800998ecf8427e", "is not a digest", ""},
		{"digest with a path", id, "sha256:../../../etc/passwd", "is not a digest", ""},
		{"no digest", `"digest":"` + id + `"`, `"x":1`, `"" is not a digest`, ""},
		{"bad diffID", diffID(1), "sha256:zz", "diffID 2", ""},
		{"no size", `"size":100`, `"x":100`, `"size" is missing`, ""},
		{"negative size", `"size":100`, `"size":-1`, "size -1 is negative", ""},
		{"fractional size", `"size":100`, `"size":1e2`, `"1e2" is not a whole number`, ""},
		{"huge size", `"size":100`, `"size":99999999999999999999`, "not a whole number in range", ""},
		{"rootfs type", `"type":"layers"`, `"type":"layers+base"`, `"rootfs": type "layers+base" is not "layers"`, ""},
		{"no rootfs type", `"type":"layers",`, "", `"rootfs": type "" is not "layers"`, ""},
		{"no rootfs", `"rootfs":{`, `"root":{`, `"rootfs": missing: not the config of a container image`, ""},
		{"history an object", `"history":[`, `"history":{},"x":[`, `"history": an object where an array is expected`, ""},
		{"history of strings", `{"created_by":"ADD"}`, `"ADD"`, `"history": entry 1: a string where an object is expected`, ""},
		{"empty_layer a string", `"empty_layer":true`, `"empty_layer":"true"`, "a string where a boolean is expected", ""},
		{"os a number", `"os":"linux"`, `"os":1`, `"os": a number where a string is expected`, ""},
		{"deep config", `"os":"linux"`, `"os":"linux","x":` + strings.Repeat("[", 500) + strings.Repeat("]", 500), "config: nesting of more than 200 levels", ""},
		{"large manifest", `"schemaVersion":2`, `"x":"` + strings.Repeat("x", maxManifestSize) + `","schemaVersion":2`, "are more than 4194304", ""},
		{"large config", `"os":"linux"`, `"x":"` + strings.Repeat("x", maxConfigSize) + `","os":"linux"`, "are more than 8388608", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ociDocs().replaced(t, tt.old, tt.new).open()
			wantRefusal(t, err, tt.msg, tt.hint)
		})
	}
}

// wantRefusal checks message and hint; an empty hint means that there is none.
func wantRefusal(t *testing.T, err error, msg, hint string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), msg) {
		t.Fatalf("error %.500v, want one with %q", err, msg)
	}
	var h *HintError
	switch {
	case !errors.As(err, &h):
		if hint != "" {
			t.Errorf("no hint, want one with %q", hint)
		}
	case hint == "" || !strings.Contains(h.Hint, hint):
		t.Errorf("hint %q, want one with %q", h.Hint, hint)
	case errors.Unwrap(h) == nil:
		t.Error("the hint hides its error")
	}
}

func TestNewImageClaims(t *testing.T) {
	d := ociDocs()
	m := d.complete()
	_, err := newImage("img", digestOf([]byte("other")), d.mediaType, m, []byte(d.config))
	wantRefusal(t, err, `reading image "img": the manifest has digest `+digestOf(m).String(), "")
	_, err = newImage("img", v1.Hash{}, types.OCIImageIndex, m, []byte(d.config))
	wantRefusal(t, err, "the document's media type is", "")
	_, err = newImage("img", v1.Hash{}, types.DockerManifestSchema1Signed, m, []byte(d.config))
	wantRefusal(t, err, "obsolete schema 1", "skopeo copy")
	img, err := newImage("img", v1.Hash{}, "", m, []byte(d.config))
	if err != nil || img.Digest != digestOf(m) {
		t.Errorf("without claims: %v, %v", img, err)
	}
	sum, err := hashAs("sha512", m)
	if err != nil {
		t.Fatal(err)
	}
	if img, err = newImage("img", sum, "", m, []byte(d.config)); err != nil || img.Digest != sum {
		t.Errorf("sha512: %v, %v", img, err)
	}
}

func TestForeign(t *testing.T) {
	for _, tt := range []struct {
		mediaType types.MediaType
		more      string
		want      bool
	}{
		{types.OCILayer, "", false},
		{types.OCILayer, `,"urls":[]`, false},
		{types.OCILayer, `,"urls":["https://example.com"]`, true},
		{types.OCIRestrictedLayer, "", true},
		{types.OCIUncompressedRestrictedLayer, "", true},
		{ociRestrictedLayerZstd, "", true},
		{types.DockerForeignLayer, "", true},
		{dockerForeignLayerUncompressed, "", true},
		{types.DockerLayer, "", false},
	} {
		d, err := parseDescriptor([]byte(layerJSON(tt.mediaType, 1, tt.more)))
		if err != nil {
			t.Fatal(err)
		}
		if d.isForeign() != tt.want {
			t.Errorf("%s%s: foreign %t", tt.mediaType, tt.more, d.isForeign())
		}
	}
}

func TestNewClassicImage(t *testing.T) {
	d := ociDocs()
	img, err := newClassicImage("f.tar", []byte(d.config), []int64{10, 0})
	if err != nil {
		t.Fatal(err)
	}
	if img.Manifest != nil || img.MediaType != "" || img.Digest != (v1.Hash{}) || img.Platform.OS != "linux" || len(img.Layers) != 2 {
		t.Errorf("image %+v", img)
	}
	if l := img.Layers[0]; l.Size != 10 || l.DiffID.String() != diffID(0) || l.Digest != (v1.Hash{}) || l.Descriptor != nil {
		t.Errorf("layer %+v", l)
	}
	_, err = newClassicImage("f.tar", []byte(d.config), []int64{10})
	wantRefusal(t, err, `reading image "f.tar": layers length mismatch: the archive has 1 layers, the config 2 diffIDs`, "")
	_, err = newClassicImage("f.tar", []byte(d.replaced(t, "linux", "windows").config), []int64{10, 0})
	wantRefusal(t, err, "images for windows", "--platform")
}

func TestParseIndex(t *testing.T) {
	image := `{ "mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"` + blobDigest(1) + `","x":1e400,` +
		`"platform":{"architecture":"arm64","os":"linux","variant":"v8","os.version":"1","os.features":["f"],"y":1},"annotations":{"a":"b","A":"c"}}`
	nested := `{"mediaType":"application/vnd.oci.image.index.v1+json","size":2,"digest":"` + blobDigest(2) + `"}`
	unknown := `{"mediaType":"application/x-y","size":3,"digest":"` + blobDigest(3) + `","artifactType":"t"}`
	raw := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[` + image + ` , ` + nested + `,` + unknown + `,` + image + `]}`
	idx, err := parseIndex([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	if idx.MediaType != types.OCIImageIndex {
		t.Errorf("media type %s", idx.MediaType)
	}
	var got []string
	for _, d := range idx.Manifests {
		got = append(got, string(d.Raw))
	}
	if strings.Join(got, "\n") != strings.Join([]string{image, nested, unknown, image}, "\n") {
		t.Errorf("descriptors\n%s", strings.Join(got, "\n"))
	}
	d := idx.Manifests[0]
	if p := d.Platform; p == nil || p.String() != "linux/arm64/v8:1" || len(p.OSFeatures) != 1 {
		t.Errorf("platform %v", p)
	}
	if d.Annotations["a"] != "b" || d.Annotations["A"] != "c" {
		t.Errorf("annotations %q", d.Annotations)
	}
	if d := idx.Manifests[2]; d.Platform != nil || d.ArtifactType != "t" || d.MediaType != "application/x-y" {
		t.Errorf("unknown entry %+v", d)
	}
}

func TestParseIndexRefused(t *testing.T) {
	entry := `{"mediaType":"x","size":3,"digest":"` + blobDigest(3) + `"`
	for _, tt := range []struct{ name, in, msg string }{
		{"index and manifest", `{"schemaVersion":2,"manifests":[],"layers":[]}`, `an image index has no "layers"`},
		{"index and config", `{"schemaVersion":2,"manifests":[],"config":{}}`, `an image index has no "config"`},
		{"manifest", string(ociDocs().complete()), "is not that of an image index"},
		{"media type of a manifest", `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","manifests":[]}`, "is not that of an image index"},
		{"no manifests", `{"schemaVersion":2}`, `"manifests" is missing`},
		{"manifests twice", `{"schemaVersion":2,"manifests":[],"manifests":[]}`, `member "manifests" appears twice`},
		{"manifests in another case", `{"schemaVersion":2,"manifests":[],"Manifests":[]}`, "ambiguous member"},
		{"entry with a bad digest", `{"schemaVersion":2,"manifests":[{"mediaType":"x","size":3,"digest":"sha256:.."}]}`, `"manifests": element 1`},
		{"platform in another case", `{"schemaVersion":2,"manifests":[` + entry + `,"platform":{"OS":"linux"}}]}`, `"platform": ambiguous member "OS"`},
		{"platform twice", `{"schemaVersion":2,"manifests":[` + entry + `,"platform":{},"platform":{}}]}`, `member "platform" appears twice`},
		{"data of other content", `{"schemaVersion":2,"manifests":[` + entry + `,"data":"AAAA"}]}`, `"data": the content has digest`},
		{"too many", `{"schemaVersion":2,"manifests":[` + strings.Repeat("0,", maxItems) + `0]}`, "more than 65536 members"},
		{"schema 1", `{"schemaVersion":1,"manifests":[]}`, "obsolete schema 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := parseIndex([]byte(tt.in)); err == nil || !strings.Contains(err.Error(), tt.msg) {
				t.Errorf("error %v, want one with %q", err, tt.msg)
			}
		})
	}
}
