package image

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// newLayers describes n layers as if they had just been written.
func newLayers(t *testing.T, family types.MediaType, n int) []Layer {
	t.Helper()
	mediaType, err := LayerMediaType(family, "gzip")
	if err != nil {
		t.Fatal(err)
	}
	var out []Layer
	for i := range n {
		out = append(out, Layer{
			MediaType: mediaType, Size: int64(900 + i), Open: opens(nil),
			Digest: digestOf(fmt.Appendf(nil, "new blob %d", i)), DiffID: digestOf(fmt.Appendf(nil, "new diff %d", i)),
		})
	}
	return out
}

func newLayerJSON(l Layer) string {
	return fmt.Sprintf(`{"mediaType":%q,"size":%d,"digest":%q}`, l.MediaType, l.Size, l.Digest)
}

// mustRewrite rewrites and checks what always holds.
func mustRewrite(t *testing.T, img *Image, r Rewrite) *Image {
	t.Helper()
	manifest, config := bytes.Clone(img.Manifest), bytes.Clone(img.Config)
	out, err := img.Rewrite(r)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(manifest, img.Manifest) || !bytes.Equal(config, img.Config) {
		t.Error("the source's documents changed")
	}
	checkRewritten(t, img, r, out)
	again, err := img.Rewrite(r)
	if err != nil || !bytes.Equal(again.Manifest, out.Manifest) || !bytes.Equal(again.Config, out.Config) {
		t.Errorf("a second run gives other documents: %v", err)
	}
	return out
}

// checkRewritten checks the invariants of a result.
func checkRewritten(t *testing.T, img *Image, r Rewrite, out *Image) {
	t.Helper()
	if out.Digest != digestOf(out.Manifest) {
		t.Errorf("digest %s of a manifest with %s", out.Digest, digestOf(out.Manifest))
	}
	c, err := parseConfig(out.Config)
	if err != nil {
		t.Fatal(err)
	}
	want := r.Kept + len(r.New)
	if len(out.Layers) != want || len(c.diffIDs) != want {
		t.Fatalf("%d layers and %d diffIDs, want %d", len(out.Layers), len(c.diffIDs), want)
	}
	if n := withLayer(c.history); n != want && len(c.history) > 0 {
		t.Errorf("history for %d layers of %d", n, want)
	}
	for i, l := range out.Layers {
		diffID := v1.Hash{}
		if i < r.Kept {
			diffID = img.Layers[i].DiffID
		} else {
			diffID = r.New[i-r.Kept].DiffID
		}
		if l.DiffID != diffID {
			t.Errorf("layer %d has diffID %s, want %s", i+1, l.DiffID, diffID)
		}
	}
}

// TestRewriteKeepsBytes compares documents that hold everything odd before and
// after, byte by byte.
func TestRewriteKeepsBytes(t *testing.T) {
	odd := strings.ReplaceAll(oddMembers, "\xff", "\ufffd")
	// Within the two arrays that change, white space may differ.
	config := func(diffIDs, history string) string {
		return "{\n  \"created\": \"2020-01-02T03:04:05.6Z\",\n  " + odd + ",\n  \"id\":\"ab\",\n  " +
			`"os" : "linux", "architecture":"amd64","os.features":null,` +
			`"config":{"Healthcheck":{"Test":["CMD","x"],"StartInterval":5000000000},"Volumes":null,"OnBuild":[],"ArgsEscaped":true,"Memory":0,"Labels":{"a":"1","A":"2"}},` +
			`"container_config" : { "Hostname":"h","hostname":"H" }, "moby.buildkit.cache.v0":"AA==",` +
			"\n  \"rootfs\": {\"x\":1e400, \"type\": \"layers\", \"diff_ids\": [" + diffIDs + "], \"y\":null},\n  \"history\": [\n    " + history + "\n  ]\n}\n"
	}
	manifest := func(config string, layers, annotations string) string {
		return "{\n  " + odd + ",\n  " + `"schemaVersion" : 2, "layers": [` + layers + `],` +
			`"config":{ "digest":"` + digestOf([]byte(config)).String() + `", "x":1e400, "size":` + fmt.Sprint(len(config)) +
			`, "mediaType":"application/vnd.oci.image.config.v1+json","annotations":{"a":"b"}, "data":"` + base64.StdEncoding.EncodeToString([]byte(config)) + `" }` +
			`,"subject":{"mediaType":"x","digest":"` + blobDigest(9) + `","size":1},` +
			"\n  \"annotations\":" + annotations + "\n}"
	}
	quote := func(n int) string { return fmt.Sprintf("%q", diffID(n)) }
	added := newLayers(t, types.OCIManifestSchema1, 1)[0]
	addedID := fmt.Sprintf("%q", added.DiffID)
	addedEntry := `{"created":"2020-01-02T03:04:05.6Z","created_by":"slim <squash>","comment":"source=x"}`
	// What layers bring with them stays with those that are kept only.
	first := layerJSON(types.OCILayer, 0, `,"annotations":{"io.github.containers.zstd-chunked.manifest-checksum":"x"}, "z":1e400`)
	second := layerJSON(types.OCIRestrictedLayer, 1, `,"urls":["https://example.com/1"],"platform":null`)
	third := layerJSON(types.OCILayerZStd, 2, `,"annotations":{"containerd.io/snapshot/stargz/toc.digest":"x"}`)
	before := config("\n "+quote(0)+",\n "+quote(1)+",\n "+quote(2)+"\n",
		`{ "created_by":"A", "z":1e400 },{"created_by":"E","empty_layer": true},`+"\n    "+`{"created_by":"B","empty_layer":false},`+"\n    "+`{"created_by":"C"}`)
	base := `"org.opencontainers.image.base.name":"b", "org.opencontainers.image.base.digest":"` + blobDigest(8) + `"`
	source := manifest(before, first+" ,\n"+second+",\n"+third, `{"k":"1", `+base+`, "K":"\u0032"}`)

	img, err := newImage("img", digestOf([]byte(source)), types.OCIManifestSchema1, []byte(source), []byte(before))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name             string
		r                Rewrite
		config, manifest string
	}{
		{
			"above a base", Rewrite{Kept: 2, New: []Layer{added}},
			config("\n "+quote(0)+",\n "+quote(1)+",\n "+addedID+"\n",
				`{ "created_by":"A", "z":1e400 },{"created_by":"E","empty_layer": true},`+"\n    "+`{"created_by":"B","empty_layer":false},`+"\n    "+
					`{"created_by":"C","empty_layer":true},`+"\n    "+addedEntry),
			first + " ,\n" + second + " ,\n" + newLayerJSON(added) + `|{"k":"1", ` + base + `, "K":"\u0032"}`,
		},
		{
			"whole", Rewrite{New: []Layer{added}},
			config(addedID, `{ "created_by":"A", "z":1e400, "empty_layer":true },{"created_by":"E","empty_layer": true},`+"\n    "+
				`{"created_by":"B","empty_layer":true},`+"\n    "+`{"created_by":"C","empty_layer":true},`+"\n    "+addedEntry),
			newLayerJSON(added) + `|{"k":"1", "K":"\u0032"}`,
		},
		{
			"nothing left above a base", Rewrite{Kept: 1},
			config("\n "+quote(0)+"\n", `{ "created_by":"A", "z":1e400 },{"created_by":"E","empty_layer": true},`+"\n    "+
				`{"created_by":"B","empty_layer":true},`+"\n    "+`{"created_by":"C","empty_layer":true}`),
			first + `|{"k":"1", ` + base + `, "K":"\u0032"}`,
		},
		{
			"named base", Rewrite{Kept: 1, BaseName: "r/b:1", BaseDigest: digestOf(nil)},
			config("\n "+quote(0)+"\n", `{ "created_by":"A", "z":1e400 },{"created_by":"E","empty_layer": true},`+"\n    "+
				`{"created_by":"B","empty_layer":true},`+"\n    "+`{"created_by":"C","empty_layer":true}`),
			first + `|{"k":"1", "K":"\u0032", "org.opencontainers.image.base.name":"r/b:1", "org.opencontainers.image.base.digest":"` + digestOf(nil).String() + `"}`,
		},
		{"all kept", Rewrite{Kept: 3}, before, first + " ,\n" + second + ",\n" + third + `|{"k":"1", ` + base + `, "K":"\u0032"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.r.CreatedBy, tt.r.Comment = "slim <squash>", "source=x"
			out := mustRewrite(t, img, tt.r)
			if got := string(out.Config); got != tt.config {
				t.Errorf("config\n%s\nwant\n%s", got, tt.config)
			}
			layers, annotations, _ := strings.Cut(tt.manifest, "|")
			if got, want := string(out.Manifest), manifest(tt.config, layers, annotations); got != want {
				t.Errorf("manifest\n%s\nwant\n%s", got, want)
			}
			if len(out.Notes) > 0 {
				t.Errorf("notes %q", out.Notes)
			}
		})
	}
}

func TestRewriteHistory(t *testing.T) {
	const matching = `[{"created_by":"A"},{"created_by":"E1","empty_layer":true},{"created_by":"B"},{"created_by":"E2","empty_layer":true},{"created_by":"C"},{"created_by":"E3","empty_layer":true}]`
	const tooMany = `[{"created_by":"A"},{"created_by":"B"},{"created_by":"C"},{"created_by":"D"}]`
	const tooFew = `[{"created_by":"A"},{"created_by":"E","empty_layer":true}]`
	const madeUp = "slim: layer "
	for _, tt := range []struct {
		name    string
		history string // of three layers; empty: absent
		r       Rewrite
		diffIDs []int // where they are not 0, 1, 2
		want    string
		note    string
	}{
		{"match, whole", matching, Rewrite{}, nil, "-A -E1 -B -E2 -C -E3 new0", ""},
		{"match, base", matching, Rewrite{Kept: 2}, nil, "A -E1 B -E2 -C -E3 new0", ""},
		{"match, whole, drop", matching, Rewrite{DropHistory: true}, nil, "new0", ""},
		{"match, base, drop", matching, Rewrite{Kept: 2, DropHistory: true}, nil, "A -E1 B new0", ""},
		{"base cut", matching, Rewrite{Kept: 2, DropHistory: true, BaseHistory: 4}, nil, "A -E1 B -E2 new0", ""},
		{"base cut does not matter when all are kept", matching, Rewrite{Kept: 2, BaseHistory: 4}, nil, "A -E1 B -E2 -C -E3 new0", ""},
		{"base cut beyond the end", matching, Rewrite{Kept: 2, DropHistory: true, BaseHistory: 40}, nil, "A -E1 B new0", ""},
		{"base cut of another history", matching, Rewrite{Kept: 2, DropHistory: true, BaseHistory: 5}, nil, "A -E1 B new0", ""},
		{"all kept", matching, Rewrite{Kept: 3}, nil, "A -E1 B -E2 C -E3 new0", ""},
		{"all kept, drop", matching, Rewrite{Kept: 3, DropHistory: true}, nil, "A -E1 B -E2 C new0", ""},
		{"repeated diffIDs", matching, Rewrite{Kept: 2}, []int{0, 0, 0}, "A -E1 B -E2 -C -E3 new0", ""},
		{"too many, whole", tooMany, Rewrite{}, nil, "-A -B -C -D new0", "entries for 4 layers and the image has 3"},
		{"too many, base", tooMany, Rewrite{Kept: 2}, nil, madeUp + "0 " + madeUp + "1 -A -B -C -D new0", "rebuilt"},
		{"too many, base, drop", tooMany, Rewrite{Kept: 2, DropHistory: true, BaseHistory: 2}, nil, madeUp + "0 " + madeUp + "1 new0", "rebuilt"},
		{"too few, whole", tooFew, Rewrite{}, nil, "-A -E new0", "entries for 1 layers and the image has 3"},
		{"too few, base", tooFew, Rewrite{Kept: 1}, nil, madeUp + "0 -A -E new0", "rebuilt"},
		{"too few, repeated diffIDs", tooFew, Rewrite{Kept: 2}, []int{7, 7, 7}, madeUp + "7 " + madeUp + "7 -A -E new0", "rebuilt"},
		{"absent, whole", "", Rewrite{}, nil, "new0", ""},
		{"absent, base", "", Rewrite{Kept: 1}, nil, madeUp + "0 new0", "no history: entries of the 1 kept layers were made up"},
		{"null, whole", "null", Rewrite{}, nil, "new0", ""},
		{"null, base", "null", Rewrite{Kept: 1}, nil, madeUp + "0 new0", "no history"},
		{"empty, whole", "[]", Rewrite{}, nil, "new0", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.diffIDs == nil {
				tt.diffIDs = []int{0, 1, 2}
			}
			img := historyImage(t, tt.history, tt.diffIDs)
			tt.r.New, tt.r.CreatedBy = newLayers(t, img.MediaType, 1), "new0"
			out := mustRewrite(t, img, tt.r)
			for _, n := range tt.diffIDs {
				tt.want = strings.ReplaceAll(tt.want, fmt.Sprint(madeUp, n, " "), madeUp+diffID(n)+" ")
			}
			if got := historyText(t, out.Config); got != tt.want {
				t.Errorf("history %q, want %q", got, tt.want)
			}
			if notes := strings.Join(out.Notes, "\n"); !strings.Contains(notes, tt.note) || tt.note == "" && notes != "" {
				t.Errorf("notes %q, want %q", notes, tt.note)
			}
		})
	}
	t.Run("several new layers", func(t *testing.T) {
		img := historyImage(t, matching, []int{0, 1, 2})
		out := mustRewrite(t, img, Rewrite{Kept: 1, New: newLayers(t, img.MediaType, 3), CreatedBy: "n"})
		if got := historyText(t, out.Config); got != "A -E1 -B -E2 -C -E3 n n n" {
			t.Errorf("history %q", got)
		}
	})
	t.Run("absent stays absent where no layer is", func(t *testing.T) {
		img := historyImage(t, "null", nil)
		if _, err := img.Rewrite(Rewrite{}); err == nil {
			t.Error("an image without layers was written")
		}
	})
}

// historyImage is an image with a history.
func historyImage(t *testing.T, history string, diffIDs []int) *Image {
	t.Helper()
	d := ociDocs()
	var ids, layers []string
	for i, n := range diffIDs {
		ids = append(ids, fmt.Sprintf("%q", diffID(n)))
		layers = append(layers, layerJSON(types.OCILayer, i, ""))
	}
	d.config = `{"os":"linux","rootfs":{"type":"layers","diff_ids":[` + strings.Join(ids, ",") + `]}}`
	if history != "" {
		d.config = strings.Replace(d.config, "{", `{"history":`+history+",", 1)
	}
	d.manifest = d.manifest[:strings.Index(d.manifest, `[{"mediaType"`)] + "[" + strings.Join(layers, ",") + "]}"
	return d.mustOpen(t)
}

// historyText writes a history as its created_by, with a minus before entries
// that stand for no layer.
func historyText(t *testing.T, config []byte) string {
	t.Helper()
	c, err := v1.ParseConfigFile(bytes.NewReader(config))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, h := range c.History {
		if h.EmptyLayer {
			h.CreatedBy = "-" + h.CreatedBy
		}
		out = append(out, h.CreatedBy)
	}
	return strings.Join(out, " ")
}

func TestRewriteHistoryEntry(t *testing.T) {
	for _, tt := range []struct{ name, created, comment, want string }{
		{"with all", `"created":"2020-01-02T03:04:05Z",`, "c", `{"created":"2020-01-02T03:04:05Z","created_by":"slim","comment":"c"}`},
		{"as written", `"created":"\u0032020-01-02T03:04:05Z",`, "c", `{"created":"\u0032020-01-02T03:04:05Z","created_by":"slim","comment":"c"}`},
		{"no comment", `"created":"2020-01-02T03:04:05Z",`, "", `{"created":"2020-01-02T03:04:05Z","created_by":"slim"}`},
		{"no time", "", "c", `{"created_by":"slim","comment":"c"}`},
		{"null time", `"created":null,`, "", `{"created_by":"slim"}`},
		{"a number for a time", `"created":1,`, "", `{"created_by":"slim"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			img := ociDocs().replaced(t, `"created":"2020-01-02T03:04:05Z",`, tt.created).mustOpen(t)
			out := mustRewrite(t, img, Rewrite{New: newLayers(t, img.MediaType, 1), CreatedBy: "slim", Comment: tt.comment})
			if !strings.HasSuffix(string(out.Config), ","+tt.want+"]}") {
				t.Errorf("config\n%s\nwant the last entry\n%s", out.Config, tt.want)
			}
		})
	}
}

func TestRewriteRefused(t *testing.T) {
	img := ociDocs().mustOpen(t)
	added := newLayers(t, img.MediaType, 1)
	for _, tt := range []struct {
		name, want string
		r          Rewrite
	}{
		{"no layer", "the image would have no layer", Rewrite{}},
		{"more kept than there are", "3 layers cannot be kept of 2", Rewrite{Kept: 3}},
		{"less than none kept", "-1 layers cannot be kept", Rewrite{Kept: -1, New: added}},
		{"short base", "2 layers cannot be kept of a base that has 1", Rewrite{Kept: 2, KeptLayers: img.Layers[:1]}},
		{"another base", "the base is another image: its layer 1 has diffID", Rewrite{Kept: 1, KeptLayers: added}},
		{"layers of the base in another order", "the base is another image", Rewrite{Kept: 2, KeptLayers: []Layer{img.Layers[1], img.Layers[0]}}},
		{"new layer without a digest", "[internal error] new layer 1", Rewrite{New: []Layer{{DiffID: added[0].DiffID, MediaType: types.OCILayer}}}},
		{"family that is none", "[internal error]", Rewrite{New: added, Family: types.OCIImageIndex}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := img.Rewrite(tt.r)
			wantRefusal(t, err, tt.want, "")
		})
	}
	t.Run("zstd in a Docker manifest", func(t *testing.T) {
		_, err := img.Rewrite(Rewrite{Kept: 2, Family: types.DockerManifestSchema2})
		wantRefusal(t, err, "layer 2 ("+blobDigest(1)+"): a Docker manifest cannot hold a layer of media type", "--format oci, or squash that layer")
		err = CheckKept(img.Layers, types.DockerManifestSchema2)
		wantRefusal(t, err, "layer 2 ("+blobDigest(1)+"): a Docker manifest cannot hold a layer of media type", "--format oci, or squash that layer")
		if err := CheckKept(img.Layers[:1], types.DockerManifestSchema2); err != nil {
			t.Error(err)
		}
		l := newLayers(t, img.MediaType, 1)
		l[0].MediaType = types.OCILayerZStd
		_, err = img.Rewrite(Rewrite{Kept: 1, New: l, Family: types.DockerManifestSchema2})
		wantRefusal(t, err, "layer 2 ("+l[0].Digest.String()+"): a Docker manifest cannot hold", "--compression gzip, which every engine reads, or write the manifest with --format oci")
	})
	t.Run("unknown compression in an OCI manifest", func(t *testing.T) {
		img := dockerDocs().replaced(t, string(types.DockerUncompressedLayer)+`", "size":101`, string(types.DockerUncompressedLayer)+`+br", "size":101`).mustOpen(t)
		_, err := img.Rewrite(Rewrite{Kept: 2, Family: types.OCIManifestSchema1})
		wantRefusal(t, err, "an OCI manifest cannot hold a layer of media type", "--format docker, or squash that layer")
	})
	t.Run("annotation twice", func(t *testing.T) {
		img := ociDocs().replaced(t, `"schemaVersion":2`, `"annotations":{"a":"1","a":"2"},"schemaVersion":2`).mustOpen(t)
		_, err := img.Rewrite(Rewrite{New: added})
		wantRefusal(t, err, `rewriting the manifest: "annotations": member "a" appears twice`, "")
	})
	t.Run("manifest that grows too large", func(t *testing.T) {
		config := `"os":"linux","x":"` + strings.Repeat("x", 3<<20-1000) + `"`
		img := ociDocs().replaced(t, `"os":"linux"`, config).replaced(t, `"size":CONFIGSIZE`, `"size":CONFIGSIZE,"data":"CONFIGDATA"`).mustOpen(t)
		_, err := img.Rewrite(Rewrite{New: newLayers(t, img.MediaType, 100)})
		wantRefusal(t, err, "are more than 4194304", "")
	})
}

func TestRewriteBaseAnnotations(t *testing.T) {
	const name, digest = `"org.opencontainers.image.base.name"`, `"org.opencontainers.image.base.digest"`
	d := digestOf([]byte("base"))
	old := `{"a":"b",` + name + `:"old",` + digest + `:"old"}`
	for _, tt := range []struct {
		name   string
		docs   docs
		source string // empty: no annotations
		r      Rewrite
		want   string
	}{
		{"whole drops them", ociDocs(), old, Rewrite{}, `{"a":"b"}`},
		{"whole drops what is empty then", ociDocs(), `{` + name + `:"old"}`, Rewrite{}, ""},
		{"whole ignores a base", ociDocs(), old, Rewrite{BaseName: "n", BaseDigest: d}, `{"a":"b"}`},
		{"whole leaves null", ociDocs(), "null", Rewrite{}, "null"},
		{"whole leaves empty", ociDocs(), "{}", Rewrite{}, "{}"},
		{"unknown base keeps them", ociDocs(), old, Rewrite{Kept: 1}, old},
		{"known base", ociDocs(), old, Rewrite{Kept: 1, BaseName: "n", BaseDigest: d}, `{"a":"b",` + name + `:"n",` + digest + `:"` + d.String() + `"}`},
		{"known base, none before", ociDocs(), "", Rewrite{Kept: 1, BaseName: "n", BaseDigest: d}, `{` + name + `:"n",` + digest + `:"` + d.String() + `"}`},
		{"known base, null before", ociDocs(), "null", Rewrite{Kept: 1, BaseName: "n"}, `{` + name + `:"n"}`},
		{"only the digest is known", ociDocs(), old, Rewrite{Kept: 1, BaseDigest: d}, `{"a":"b",` + digest + `:"` + d.String() + `"}`},
		{"Docker gets none", dockerDocs(), "", Rewrite{Kept: 1, BaseName: "n", BaseDigest: d}, ""},
		{"Docker keeps what it has", dockerDocs(), `{"a":"b"}`, Rewrite{Kept: 1, BaseName: "n", BaseDigest: d}, `{"a":"b"}`},
		{"Docker, whole", dockerDocs(), old, Rewrite{}, `{"a":"b"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.source != "" {
				tt.docs = tt.docs.replaced(t, `"schemaVersion":2`, `"annotations":`+tt.source+`,"schemaVersion":2`)
			}
			img := tt.docs.mustOpen(t)
			tt.r.New = newLayers(t, img.MediaType, 1)
			out := mustRewrite(t, img, tt.r)
			var m struct{ Annotations json.RawMessage }
			if err := json.Unmarshal(out.Manifest, &m); err != nil {
				t.Fatal(err)
			}
			if got := string(m.Annotations); got != tt.want {
				t.Errorf("annotations %s, want %s", got, tt.want)
			}
		})
	}
}

func TestRewriteConfigData(t *testing.T) {
	for _, tt := range []struct{ name, data, want string }{
		{"made anew", `,"data":"CONFIGDATA"`, "new"},
		{"null stays", `,"data":null`, `null`},
		{"none", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			img := ociDocs().replaced(t, `"size":CONFIGSIZE`, `"size":CONFIGSIZE`+tt.data).mustOpen(t)
			out := mustRewrite(t, img, Rewrite{Kept: 1})
			var m struct {
				Config struct{ Data json.RawMessage }
			}
			if err := json.Unmarshal(out.Manifest, &m); err != nil {
				t.Fatal(err)
			}
			if tt.want == "new" {
				tt.want = fmt.Sprintf("%q", base64.StdEncoding.EncodeToString(out.Config))
			}
			if got := string(m.Config.Data); got != tt.want {
				t.Errorf("data %s, want %s", got, tt.want)
			}
		})
	}
}

// TestRewriteFamily checks that the media types of a result are of one family
// and that nothing else of the descriptors differs.
func TestRewriteFamily(t *testing.T) {
	oci := ociDocs().replaced(t, string(types.OCILayerZStd), string(types.OCIUncompressedLayer))
	foreign := ociDocs().replaced(t, string(types.OCILayerZStd), string(types.OCIRestrictedLayer))
	mixed := dockerDocs().replaced(t, string(types.DockerLayer), string(types.OCILayer))
	for _, tt := range []struct {
		name   string
		docs   docs
		family types.MediaType
		want   docs
		note   bool
	}{
		{"OCI stays", ociDocs(), "", ociDocs(), false},
		{"Docker stays", dockerDocs(), "", dockerDocs(), false},
		{"OCI to Docker", oci, types.DockerManifestSchema2, dockerDocs(), false},
		{"Docker to OCI", dockerDocs(), types.OCIManifestSchema1, oci, false},
		{"foreign layer to Docker", foreign, types.DockerManifestSchema2,
			dockerDocs().replaced(t, string(types.DockerUncompressedLayer)+`", "size":101`, string(types.DockerForeignLayer)+`", "size":101`), false},
		{"mixed", mixed, "", dockerDocs(), true},
		{"mixed to OCI", mixed, types.OCIManifestSchema1, oci, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := mustRewrite(t, tt.docs.mustOpen(t), Rewrite{Kept: 2, Family: tt.family})
			if got, want := string(out.Manifest), string(tt.want.complete()); got != want {
				t.Errorf("manifest\n%s\nwant\n%s", got, want)
			}
			if out.MediaType != tt.want.mediaType {
				t.Errorf("media type %s, want %s", out.MediaType, tt.want.mediaType)
			}
			if noted := len(out.Notes) > 0; noted != tt.note {
				t.Errorf("notes %q", out.Notes)
			}
		})
	}
	t.Run("OCI without a media type to Docker", func(t *testing.T) {
		d := oci.replaced(t, `"mediaType":"application/vnd.oci.image.manifest.v1+json",`, "")
		out := mustRewrite(t, d.mustOpen(t), Rewrite{Kept: 2, Family: types.DockerManifestSchema2})
		if !strings.Contains(string(out.Manifest), `"mediaType":"application/vnd.docker.distribution.manifest.v2+json"`) {
			t.Errorf("manifest %s", out.Manifest)
		}
	})
	t.Run("Docker without a media type to OCI", func(t *testing.T) {
		d := dockerDocs().replaced(t, `"mediaType":"application/vnd.docker.distribution.manifest.v2+json",`, "")
		out := mustRewrite(t, d.mustOpen(t), Rewrite{Kept: 2, Family: types.OCIManifestSchema1})
		if !strings.Contains(string(out.Manifest), `"mediaType":"application/vnd.oci.image.manifest.v1+json"`) {
			t.Errorf("manifest %s", out.Manifest)
		}
	})
	t.Run("without a media type stays so", func(t *testing.T) {
		for _, d := range []docs{oci, dockerDocs()} {
			d := d.replaced(t, `"mediaType":"`+string(d.mediaType)+`",`, "")
			if out := mustRewrite(t, d.mustOpen(t), Rewrite{Kept: 2}); !bytes.Equal(out.Manifest, d.complete()) {
				t.Errorf("manifest %s", out.Manifest)
			}
		}
	})
}

// TestRewriteFamilyMembers checks what a conversion leaves of members that the
// other family does not have.
func TestRewriteFamilyMembers(t *testing.T) {
	const version = `"schemaVersion":2`
	subject := `"subject":{"mediaType":"x","digest":"` + blobDigest(9) + `","size":1}`
	layer := func(t types.MediaType, more string) string {
		return `{"mediaType": "` + string(t) + `", "size":101 ` + more
	}
	oci := ociDocs().replaced(t, string(types.OCILayerZStd), string(types.OCIUncompressedLayer))
	const toDocker, toOCI = types.DockerManifestSchema2, types.OCIManifestSchema1
	for _, tt := range []struct {
		name     string
		docs     docs
		old, new string // what differs from docs
		family   types.MediaType
		want     string // in place of new; all of it without the media types' families
		notes    string
	}{
		{"annotations to Docker", oci, version, version + `,"annotations":{"a":"1","b":"2"}`, toDocker, version, "the manifest's 2 annotations are left out: a Docker manifest has none"},
		{"one annotation to Docker", oci, version, version + `,"annotations":{"a":"1"}`, toDocker, version, "the manifest's annotation is left out: a Docker manifest has none"},
		{"no annotations to Docker", oci, version, version + `,"annotations":{},"subject":null,"artifactType":""`, toDocker, version, ""},
		{"subject to Docker", oci, version, version + "," + subject, toDocker, version, "the manifest's subject is left out: a Docker manifest has none"},
		{"all of them to Docker", oci, version, version + "," + subject + `,"x":1e400,"annotations":{"a":"1"}`, toDocker, version + `,"x":1e400`,
			"the manifest's annotation is left out: a Docker manifest has none|the manifest's subject is left out: a Docker manifest has none"},
		{"subject within OCI", oci, version, version + "," + subject + `,"annotations":{"a":"1"}`, toOCI, version + "," + subject + `,"annotations":{"a":"1"}`, ""},
		{"subject and annotations within Docker", dockerDocs(), version, version + "," + subject + `,"annotations":{"a":"1"}`, toDocker, version + "," + subject + `,"annotations":{"a":"1"}`, ""},
		{"subject and annotations to OCI", dockerDocs(), version, version + "," + subject + `,"annotations":{"a":"1"}`, toOCI, version + "," + subject + `,"annotations":{"a":"1"}`, ""},
		{"annotations of a layer to Docker", oci, layer(types.OCIUncompressedLayer, ""), layer(types.OCIUncompressedLayer, `,"annotations":{"a":"1"}`), toDocker,
			layer(types.DockerUncompressedLayer, `,"annotations":{"a":"1"}`), ""},
		{"annotations of the config to Docker", oci, `"size":CONFIGSIZE`, `"annotations":{"a":"1"},"size":CONFIGSIZE`, toDocker, `"annotations":{"a":"1"},"size":CONFIGSIZE`, ""},
		{"urls to OCI", dockerDocs(), layer(types.DockerUncompressedLayer, ""), layer(dockerForeignLayerUncompressed, `,"urls":["https://example.com/l"]`), toOCI,
			layer(types.OCIUncompressedRestrictedLayer, `,"urls":["https://example.com/l"]`), ""},
		{"urls to Docker", oci, layer(types.OCIUncompressedLayer, ""), layer(types.OCIRestrictedLayer, `,"urls":["https://example.com/l"]`), toDocker,
			layer(types.DockerForeignLayer, `,"urls":["https://example.com/l"]`), ""},
		{"zstd to OCI", dockerDocs(), layer(types.DockerUncompressedLayer, ""), layer(dockerLayerZstd, ""), toOCI, layer(types.OCILayerZStd, ""), ""},
		{"foreign zstd to OCI", dockerDocs(), layer(types.DockerUncompressedLayer, ""), layer(dockerForeignLayerZstd, ""), toOCI, layer(ociRestrictedLayerZstd, ""), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := mustRewrite(t, tt.docs.replaced(t, tt.old, tt.new).mustOpen(t), Rewrite{Kept: 2, Family: tt.family})
			want := dockerDocs()
			if tt.family == toOCI {
				want = oci
			}
			old := tt.old
			if !strings.Contains(want.manifest, old) {
				old = layer(types.OCIUncompressedLayer, "")
				if tt.family == toDocker {
					old = layer(types.DockerUncompressedLayer, "")
				}
			}
			if got, want := string(out.Manifest), string(want.replaced(t, old, tt.want).complete()); got != want {
				t.Errorf("manifest\n%s\nwant\n%s", got, want)
			}
			if notes := strings.Join(out.Notes, "|"); notes != tt.notes {
				t.Errorf("notes %q, want %q", notes, tt.notes)
			}
		})
	}
}

func TestConvertIndexType(t *testing.T) {
	for _, tt := range []struct{ t, family, want types.MediaType }{
		{types.OCIImageIndex, types.DockerManifestSchema2, types.DockerManifestList},
		{types.OCIImageIndex, types.OCIManifestSchema1, types.OCIImageIndex},
		{types.DockerManifestList, types.OCIManifestSchema1, types.OCIImageIndex},
		{types.DockerManifestList, types.DockerManifestSchema2, types.DockerManifestList},
		{types.OCIImageIndex, "", types.OCIImageIndex},
		{types.OCIManifestSchema1, types.DockerManifestSchema2, types.OCIManifestSchema1},
		{"", types.DockerManifestSchema2, ""},
	} {
		if got := ConvertIndexType(tt.t, tt.family); got != tt.want {
			t.Errorf("%s for %s: %s, want %s", tt.t, tt.family, got, tt.want)
		}
	}
}

// TestRewriteLayerAnnotations: what lazy pulling and encryption note about a
// layer's bytes holds for no other bytes.
func TestRewriteLayerAnnotations(t *testing.T) {
	for _, name := range []string{
		"containerd.io/snapshot/stargz/toc.digest",
		"io.containers.estargz.uncompressed-size",
		"io.github.containers.zstd-chunked.manifest-checksum",
		"io.github.containers.zstd-chunked.manifest-position",
		"org.opencontainers.image.enc.keys.jwe",
	} {
		t.Run(name, func(t *testing.T) {
			more := fmt.Sprintf(`,"annotations":{%q:"v"}`, name)
			d := ociDocs()
			for i, mediaType := range []types.MediaType{types.OCILayer, types.OCILayerZStd} {
				d = d.replaced(t, layerJSON(mediaType, i, ""), layerJSON(mediaType, i, more))
			}
			img := d.mustOpen(t)
			r := Rewrite{Kept: 1, New: newLayers(t, img.MediaType, 1)}
			out := mustRewrite(t, img, r)
			if got, want := string(out.Layers[0].Descriptor), layerJSON(types.OCILayer, 0, more); got != want {
				t.Errorf("kept layer %s, want %s", got, want)
			}
			if got, want := string(out.Layers[1].Descriptor), newLayerJSON(r.New[0]); got != want {
				t.Errorf("new layer %s, want %s", got, want)
			}
			whole := mustRewrite(t, img, Rewrite{New: r.New})
			if strings.Contains(string(whole.Manifest), name) {
				t.Errorf("manifest %s", whole.Manifest)
			}
		})
	}
}

// TestRewriteSameLayers checks that a rewrite without a change of layers leaves
// the history as it is.
func TestRewriteSameLayers(t *testing.T) {
	const odd = "[ {\"created_by\" : \"A\", \"x\":1e400} ,\n {\"created_by\":\"E\",\"empty_layer\":true},{\"created_by\":\"B\",\"empty_layer\":null} ]"
	for _, tt := range []struct {
		name, history, want string
		note                string
	}{
		{"match", odd, odd, ""},
		{"absent", "", "", ""},
		{"null", "null", "null", ""},
		{"empty", "[ ]", "[ ]", ""},
		{"mismatch", `[{"created_by":"A"}]`, `[{"created_by":"slim: layer ` + diffID(0) + `"},{"created_by":"slim: layer ` + diffID(1) + `"},{"created_by":"A","empty_layer":true}]`, "rebuilt"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			img := historyImage(t, tt.history, []int{0, 1})
			for _, family := range []types.MediaType{"", types.DockerManifestSchema2} {
				out := mustRewrite(t, img, Rewrite{Kept: 2, Family: family, Edits: Edits{Labels: []KeyValue{{Key: "k", Value: "v"}}}})
				want := strings.Replace(string(img.Config), `"history":`+tt.history, `"history":`+tt.want, 1)
				want = strings.TrimSuffix(want, "}") + `,"config":{"Labels":{"k":"v"}}}`
				if got := string(out.Config); got != want {
					t.Errorf("config\n%s\nwant\n%s", got, want)
				}
				if notes := strings.Join(out.Notes, "\n"); !strings.Contains(notes, tt.note) || tt.note == "" && notes != "" {
					t.Errorf("notes %q, want %q", notes, tt.note)
				}
			}
		})
	}
}

func TestRewriteClassic(t *testing.T) {
	plain := tarOf(tarFile("a", "1"))
	packed := gzipped(plain)
	d := ociDocs().replaced(t, diffID(0), digestOf(plain).String()).replaced(t, diffID(1), digestOf(plain).String())
	classic := func() *Image {
		img, err := newClassicImage("f.tar", []byte(d.config), []int64{int64(len(plain)), int64(len(packed))})
		if err != nil {
			t.Fatal(err)
		}
		img.Names = []string{"app:1"}
		img.Layers[0].Open, img.Layers[1].Open = opens(plain), opens(packed)
		return img
	}
	sizes := func(blobs ...[]byte) (out []string) {
		for _, b := range blobs {
			out = append(out, fmt.Sprintf("%s %d", digestOf(b), len(b)))
		}
		return out
	}
	for _, tt := range []struct {
		name   string
		family types.MediaType
		want   []types.MediaType
	}{
		{"Docker by default", "", []types.MediaType{types.DockerUncompressedLayer, types.DockerLayer, types.DockerLayer}},
		{"Docker", types.DockerManifestSchema2, []types.MediaType{types.DockerUncompressedLayer, types.DockerLayer, types.DockerLayer}},
		{"OCI", types.OCIManifestSchema1, []types.MediaType{types.OCIUncompressedLayer, types.OCILayer, types.OCILayer}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			img := classic()
			family := tt.family
			if family == "" {
				family = types.DockerManifestSchema2
			}
			out := mustRewrite(t, img, Rewrite{Kept: 2, New: newLayers(t, family, 1), Family: tt.family})
			var got []types.MediaType
			var stored []string
			for _, l := range out.Layers {
				got = append(got, l.MediaType)
				stored = append(stored, fmt.Sprintf("%s %d", l.Digest, l.Size))
				if l.Open == nil {
					t.Error("a layer cannot be opened")
				}
			}
			if !slices.Equal(got, tt.want) || !slices.Equal(stored[:2], sizes(plain, packed)) {
				t.Errorf("media types %s of %s", got, stored)
			}
			if out.MediaType != family || !strings.HasPrefix(string(out.Manifest), `{"schemaVersion":2,"mediaType":"`+string(family)) {
				t.Errorf("manifest %s", out.Manifest)
			}
			if !slices.Equal(out.Names, []string{"app:1"}) || out.Ref != "f.tar" {
				t.Errorf("names %q of %q", out.Names, out.Ref)
			}
			if len(out.Notes) > 0 {
				t.Errorf("notes %q", out.Notes)
			}
		})
	}
	t.Run("layers of a base", func(t *testing.T) {
		base := ociDocs().replaced(t, diffID(0), digestOf(plain).String()).replaced(t, diffID(1), digestOf(plain).String()).
			replaced(t, `"digest":"`+blobDigest(0), `"annotations":{"k":"v"} , "digest":"`+blobDigest(0)).mustOpen(t)
		base.Layers[0].origins, base.Layers[0].Open = []registryBlob{{repo: repository(t, "registry.example/base")}}, opens(packed)
		out := mustRewrite(t, classic(), Rewrite{Kept: 1, KeptLayers: base.Layers, New: newLayers(t, types.OCIManifestSchema1, 1), Family: types.OCIManifestSchema1})
		if l := out.Layers[0]; !bytes.Equal(l.Descriptor, base.Layers[0].Descriptor) || !slices.Equal(l.origins, base.Layers[0].origins) || l.Open == nil {
			t.Errorf("layer %+v, want that of the base %s", l, base.Layers[0].Descriptor)
		}
		out = mustRewrite(t, classic(), Rewrite{Kept: 1, KeptLayers: base.Layers, New: newLayers(t, types.DockerManifestSchema2, 1)})
		want := strings.Replace(string(base.Layers[0].Descriptor), string(types.OCILayer), string(types.DockerLayer), 1)
		if got := string(out.Layers[0].Descriptor); got != want {
			t.Errorf("descriptor %s, want %s", got, want)
		}
	})
}

func TestLayerMediaType(t *testing.T) {
	for _, tt := range []struct {
		family      types.MediaType
		compression string
		want        types.MediaType
	}{
		{types.OCIManifestSchema1, "none", "application/vnd.oci.image.layer.v1.tar"},
		{types.OCIManifestSchema1, "gzip", "application/vnd.oci.image.layer.v1.tar+gzip"},
		{types.OCIManifestSchema1, "zstd", "application/vnd.oci.image.layer.v1.tar+zstd"},
		{types.DockerManifestSchema2, "none", "application/vnd.docker.image.rootfs.diff.tar"},
		{types.DockerManifestSchema2, "gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip"},
	} {
		if got, err := LayerMediaType(tt.family, tt.compression); got != tt.want || err != nil {
			t.Errorf("%s, %s: %s, %v", tt.family, tt.compression, got, err)
		}
	}
	_, err := LayerMediaType(types.DockerManifestSchema2, "zstd")
	wantRefusal(t, err, "a Docker manifest cannot hold a layer of media type", "--compression gzip, which every engine reads, or write the manifest with --format oci")
	_, err = LayerMediaType(types.OCIManifestSchema1, "xz")
	wantRefusal(t, err, `[internal error] compression "xz"`, "")
	_, err = LayerMediaType("", "gzip")
	wantRefusal(t, err, "[internal error]", "")
}

// FuzzRewrite opens arbitrary documents, made to fit each other where their
// text has the marks of docs, and rewrites them: an error or a result that
// holds what mustRewrite asks for, in which nothing else has changed.
func FuzzRewrite(f *testing.F) {
	for _, d := range []docs{ociDocs(), dockerDocs()} {
		f.Add([]byte(d.manifest), []byte(d.config), 1, 1, false)
		f.Add([]byte(d.manifest), []byte(strings.Replace(d.config, `"history"`, oddMembers+`,"history"`, 1)), 0, 2, true)
		f.Add(d.complete(), []byte(d.config), 2, 0, false)
		f.Add([]byte(strings.Replace(d.manifest, `"schemaVersion":2`, `"annotations": {"a":"1"},"schemaVersion":2`, 1)), []byte(d.config), 0, 1, false)
		f.Add([]byte(strings.Replace(d.manifest, `"mediaType":"`+string(d.mediaType)+`",`, "", 1)), []byte(d.config), 1, 1, false)
		f.Add([]byte(strings.Replace(d.manifest, `"layers"`, `"LAYERS":[],"layers"`, 1)), []byte(d.config), 0, 1, false)
		f.Add([]byte(d.manifest), []byte(strings.Replace(d.config, `"history":[`, `"history":[{},`, 1)), 1, 1, false)
	}
	f.Fuzz(func(t *testing.T, manifest, config []byte, kept, added int, drop bool) {
		d := docs{manifest: string(manifest), config: string(config)}
		img, err := d.open()
		if err != nil {
			return
		}
		r := Rewrite{Kept: kept, New: newLayers(t, img.MediaType, min(max(added, 0), 5)), DropHistory: drop, CreatedBy: "slim", Comment: "c"}
		out, err := img.Rewrite(r)
		if err != nil {
			return
		}
		checkRewritten(t, img, r, out)
		sameBut(t, img.Config, out.Config, "rootfs", "history")
		sameBut(t, img.Manifest, out.Manifest, "config", "layers", "annotations")
		all := Rewrite{Kept: len(out.Layers)}
		if again, err := out.Rewrite(all); err != nil || !bytes.Equal(again.Manifest, out.Manifest) || !bytes.Equal(again.Config, out.Config) {
			t.Errorf("keeping all layers of a result changes it: %v\n%s\n%s", err, out.Manifest, out.Config)
		}
	})
}

// sameBut checks that two objects have the same members in the same order with
// the same bytes, but for the values of some names.
func sameBut(t *testing.T, before, after []byte, names ...string) {
	t.Helper()
	flat := func(raw []byte) (out []string) {
		o, err := parseObject(raw)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range o.items {
			if !slices.Contains(names, m.name) {
				out = append(out, string(m.key)+string(m.value))
			}
		}
		return out
	}
	if a, b := flat(before), flat(after); !slices.Equal(a, b) {
		t.Errorf("members\n%q\nwant\n%q", b, a)
	}
}
