package image

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

// layoutOf opens a layout whose only entry is an index.
func openIndex(t *testing.T, index []byte, fixtures ...fixture) *Source {
	t.Helper()
	root := fixture{manifest: index, mediaType: types.OCIImageIndex}
	dir := writeTree(t, layoutMembers(indexOf(root.entry()), append(fixtures, root)...)...)
	s, err := Open(t.Context(), Ref{Transport: OCI, Path: dir}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// entriesOf are the digests of an index's entries.
func digestsIn(t *testing.T, raw []byte) []string {
	t.Helper()
	doc, err := parseIndex(raw)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, d := range doc.Manifests {
		all = append(all, d.Digest.String())
	}
	return all
}

func TestSelect(t *testing.T) {
	amd, arm := newFixture("linux/amd64", asGzip, "amd"), newFixture("linux/arm64/v8", asGzip, "arm")
	bsd, windows := newFixture("freebsd/amd64", asGzip, "bsd"), newFixture("windows/amd64", asGzip, "windows")
	of := func(f fixture) string { return f.entry(platformJSON(f.platform)) }
	nested := fixture{manifest: indexOf(of(arm)), mediaType: types.OCIImageIndex}
	artifact := arm.entry(`"artifactType":"text/x"`)
	all := []fixture{amd, arm, bsd, windows, nested}
	for _, tc := range []struct {
		name      string
		entries   []string
		platforms []string
		want      []fixture
		index     bool
		notes     []string
		err       string
	}{
		{name: "one image", entries: []string{of(amd)}, want: []fixture{amd}, index: true},
		{name: "two", entries: []string{of(arm), of(amd)}, want: []fixture{arm, amd}, index: true},
		{name: "listed twice", entries: []string{of(arm), of(amd), of(arm)}, want: []fixture{arm, amd}, index: true},
		{name: "nested", entries: []string{of(amd), nested.entry()}, want: []fixture{amd, arm}, index: true},
		{name: "an artifact with the digest of an image", entries: []string{artifact, of(arm)}, want: []fixture{arm}, index: true},
		{name: "other systems", entries: []string{of(windows), of(amd), of(bsd)}, want: []fixture{amd}, index: true,
			notes: []string{`the image for "windows/amd64" is copied as it is`, `the image for "freebsd/amd64" is copied as it is`}},
		{name: "absent", entries: []string{newFixture("linux/s390x", asTar, "x").entry(platformJSON("linux/s390x")), of(amd)}, want: []fixture{amd}, index: true, notes: []string{`"linux/s390x", whose manifest`}},
		{name: "one selected", entries: []string{of(arm), of(amd)}, platforms: []string{"linux/amd64"}, want: []fixture{amd}},
		{name: "order of the index", entries: []string{of(arm), of(bsd), of(amd)}, platforms: []string{"linux/amd64", "linux/arm64"}, want: []fixture{arm, amd}, index: true},
		{name: "another system selected", entries: []string{of(bsd), of(amd)}, platforms: []string{"freebsd/amd64"}, want: []fixture{bsd}},
		{name: "one twice", entries: []string{of(arm), of(amd)}, platforms: []string{"linux/arm64", "linux/arm64/v8"}, want: []fixture{arm}, index: true},
		{name: "one of two missing", entries: []string{of(arm)}, platforms: []string{"linux/arm64", "linux/s390x"}, err: `no image for "linux/s390x"`},
		{name: "windows alone", entries: []string{of(windows)}, err: "windows are not supported"},
		{name: "nothing", entries: nil, err: "holds no image"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sel, err := openIndex(t, indexOf(tc.entries...), all...).Select(t.Context(), tc.platforms)
			if tc.err != "" {
				wantError(t, err, tc.err, true)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(sel.Images) != len(tc.want) || sel.IsIndex() != tc.index {
				t.Fatalf("%d images, index %t", len(sel.Images), sel.IsIndex())
			}
			for i, f := range tc.want {
				wantImage(t, sel.Images[i], f)
			}
			for _, note := range tc.notes {
				if !slices.ContainsFunc(sel.Notes, func(n string) bool { return strings.Contains(n, note) }) {
					t.Errorf("no note %q in %q", note, sel.Notes)
				}
			}
		})
	}
}

// TestSeveralWithoutIndex makes an index for images that have none above them.
func TestSeveralWithoutIndex(t *testing.T) {
	amd, arm := newFixture("linux/amd64", asGzip, "amd"), newFixture("linux/arm64/v8", asGzip, "arm")
	amdMembers, amdSaved := amd.saved("app:1")
	armMembers, armSaved := arm.saved("app:1")
	for name, ref := range map[string]Ref{
		"docker-archive": {Transport: DockerArchive, Path: save(t, tarOf(append(append(amdMembers, armMembers...), savedJSON(amdSaved, armSaved))...))},
		"layout":         {Transport: OCI, Path: writeTree(t, layoutMembers(indexOf(amd.entry(platformJSON("linux/amd64")), arm.entry(platformJSON("linux/arm64/v8"))), amd, arm)...)},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Open(t.Context(), ref, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			sel, err := s.Select(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			index, err := sel.Rewrite(t.Context(), sel.Images, IndexRewrite{})
			if err != nil {
				t.Fatal(err)
			}
			out := Ref{Transport: OCI, Path: t.TempDir(), Name: "out"}
			if _, err := WriteIndex(t.Context(), out, index, Options{}); err != nil {
				t.Fatal(err)
			}
			for platform, f := range map[string]fixture{"linux/amd64": amd, "linux/arm64": arm} {
				got, err := openImage(t, out, platform, Options{})
				if err != nil {
					t.Fatal(err)
				}
				if string(got.Config) != string(f.config) {
					t.Errorf("%s: config %s", platform, got.Config)
				}
			}
			if _, err := sel.Single(Ref{Transport: DockerArchive, Path: "x"}); err == nil {
				t.Error("two images fit into a docker-archive")
			}
		})
	}
}

// TestIndexUnchanged gives back every byte of an index whose images did not change.
func TestIndexUnchanged(t *testing.T) {
	amd, windows := newFixture("linux/amd64", asGzip, "amd"), newFixture("windows/amd64", asGzip, "windows")
	of := func(f fixture) string { return f.entry(platformJSON(f.platform)) }
	attested := amd.entry(platformJSON("unknown/unknown"), fmt.Sprintf(`"annotations":{"vnd.docker.reference.type":"x","vnd.docker.reference.digest":%q}`, digestOf(amd.manifest)))
	nested := fixture{manifest: []byte(" " + string(indexOf(of(amd)))), mediaType: types.OCIImageIndex}
	for _, raw := range []string{
		string(indexOf(of(amd))),
		string(indexOf(of(windows), of(amd), attested, nested.entry(), amd.entry(`"artifactType":"t"`))),
		strings.Replace(string(indexOf(of(amd), of(amd))), "{", "{ \"x\" : 1e400 ,\n", 1),
		strings.Replace(string(indexOf(of(amd))), "{", `{"annotations":{"org.opencontainers.image.base.name":"b"},`, 1),
	} {
		sel, err := openIndex(t, []byte(raw), amd, windows, nested).Select(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		index, err := sel.Rewrite(t.Context(), sel.Images, IndexRewrite{})
		if err != nil {
			t.Fatal(err)
		}
		if string(index.Raw) != raw || index.Digest != digestOf([]byte(raw)) {
			t.Errorf("an index became\n%s\nit was\n%s", index.Raw, raw)
		}
	}
}

// changedImage is an image with another config.
func changedImage(t *testing.T, img *Image) *Image {
	t.Helper()
	out, err := img.Rewrite(Rewrite{Kept: len(img.Layers), Edits: Edits{Labels: []KeyValue{{Key: "a", Value: "b"}}}})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestIndexAttestations keeps what is about unchanged images alone, however it names
// them.
func TestIndexAttestations(t *testing.T) {
	amd, arm := newFixture("linux/amd64", asGzip, "amd"), newFixture("linux/arm64", asGzip, "arm")
	of := func(f fixture) string { return f.entry(platformJSON(f.platform)) }
	about := func(f fixture, n int) fixture {
		doc := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"artifactType":"sbom/%d","config":%s,"layers":[],"subject":%s}`,
			types.OCIManifestSchema1, n, descriptorJSON("application/vnd.oci.empty.v1+json", []byte("{}")), descriptorJSON(types.OCIManifestSchema1, f.manifest))
		return fixture{manifest: []byte(doc), mediaType: types.OCIManifestSchema1, config: []byte("{}")}
	}
	byAnnotation := func(f, subject fixture) string {
		return f.entry(platformJSON("unknown/unknown"), fmt.Sprintf(`"annotations":{"vnd.docker.reference.type":"attestation-manifest","vnd.docker.reference.digest":%q}`, digestOf(subject.manifest)))
	}
	a1, b1, a2, b2 := about(amd, 1), about(arm, 1), about(amd, 2), about(arm, 2)
	loose := newFixture("unknown/unknown", asTar, "loose")
	index := indexOf(of(amd), of(arm), byAnnotation(a1, amd), byAnnotation(b1, arm), a2.entry(`"artifactType":"sbom"`), b2.entry(`"artifactType":"sbom"`), loose.entry(`"artifactType":"other"`))
	sel, err := openIndex(t, index, amd, arm, a1, b1, a2, b2, loose).Select(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	results := []*Image{changedImage(t, sel.Images[0]), sel.Images[1]}
	got, err := sel.Rewrite(t.Context(), results, IndexRewrite{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{results[0].Digest.String()}
	for _, f := range []fixture{arm, b1, b2, loose} {
		want = append(want, digestOf(f.manifest).String())
	}
	if d := digestsIn(t, got.Raw); !slices.Equal(d, want) {
		t.Errorf("entries %q, want %q", d, want)
	}
	stale, err := sel.Invalidated(t.Context(), results)
	if err != nil {
		t.Fatal(err)
	}
	if len(stale) != 2 || stale[0].Digest != digestOf(a1.manifest) || stale[1].Digest != digestOf(a2.manifest) || stale[1].Kind != "sbom" {
		t.Errorf("invalidated %+v", stale)
	}
}

// TestIndexData drops the embedded content of an entry that changed.
func TestIndexData(t *testing.T) {
	amd := newFixture("linux/amd64", asGzip, "amd")
	data, err := json.Marshal(amd.manifest)
	if err != nil {
		t.Fatal(err)
	}
	index := indexOf(amd.entry(platformJSON("linux/amd64"), `"data":`+string(data), `"annotations":{"org.opencontainers.image.base.digest":"x","k":"v"}`, `"x-unknown":1`))
	sel, err := openIndex(t, index, amd).Select(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := sel.Rewrite(t.Context(), []*Image{changedImage(t, sel.Images[0])}, IndexRewrite{DropBase: true, Annotations: []KeyValue{{Key: "n", Value: "1"}}})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{`"data"`: false, "base.digest": false, `"k":"v"`: true, `"x-unknown":1`: true, `"annotations":{"n":"1"}`: true} {
		if strings.Contains(string(got.Raw), text) != want {
			t.Errorf("%s: %t in %s", text, !want, got.Raw)
		}
	}
}

func TestPackageImage(t *testing.T) {
	for purl, want := range map[string]string{
		"pkg:docker/debian@12?platform=linux%2Famd64":       "debian:12",
		"pkg:docker/docker.io/library/debian@bookworm-slim": "docker.io/library/debian:bookworm-slim",
		"pkg:docker/host%3A5000/a/b@1.0":                    "host:5000/a/b:1.0",
		"pkg:docker/debian":                                 "debian",
		"pkg:docker/debian@sha256:ab":                       "debian",
		"pkg:docker/":                                       "",
		"pkg:docker/%zz@1":                                  "",
		"https://example.com/x":                             "",
	} {
		if got, ok := packageImage(purl); got != want || ok != (want != "") {
			t.Errorf("%s is %q, want %q", purl, got, want)
		}
	}
}

func TestHintRef(t *testing.T) {
	digest := digestOf(nil)
	source := Ref{Transport: Registry, Name: "example.com/app:1"}
	for _, tc := range []struct {
		hint   BaseHint
		source Ref
		want   string
	}{
		{BaseHint{Name: "debian:12", Digest: digest}, source, "debian:12@" + digest.String()},
		{BaseHint{Name: "debian:12"}, source, "debian:12"},
		{BaseHint{Digest: digest}, source, "example.com/app@" + digest.String()},
		{BaseHint{Digest: digest}, Ref{Transport: OCI, Path: "x"}, ""},
		{BaseHint{Name: "a b"}, source, ""},
	} {
		got, err := HintRef(tc.hint, tc.source)
		if (err == nil) != (tc.want != "") || err == nil && got.Name != tc.want {
			t.Errorf("%+v: %v, %v, want %q", tc.hint, got, err, tc.want)
		}
	}
	for name, want := range map[string]string{
		"debian":                             "docker.io/library/debian:latest",
		"debian:12@" + digest.String():       "docker.io/library/debian:12",
		"example.com:5/a@" + digest.String(): "example.com:5/a@" + digest.String(),
		"example.com:5/a/b:1":                "example.com:5/a/b:1",
	} {
		if got := (Ref{Transport: Registry, Name: name}).FullName(); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}
