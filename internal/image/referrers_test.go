package image

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// artifact is a manifest about another one; an empty type leaves that to the
// config.
func artifact(subject v1.Hash, artifactType string, config types.MediaType) []byte {
	kind := ""
	if artifactType != "" {
		kind = fmt.Sprintf(`"artifactType":%q,`, artifactType)
	}
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,%s"config":%s,"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":2}}`,
		types.OCIManifestSchema1, kind, descriptorJSON(config, []byte("{}")), types.OCIManifestSchema1, subject)
}

// listed is an artifact's descriptor in a list of referrers.
func listed(raw []byte, artifactType string) string {
	d := descriptorJSON(types.OCIManifestSchema1, raw)
	if artifactType == "" {
		return d
	}
	return strings.TrimSuffix(d, "}") + fmt.Sprintf(`,"artifactType":%q}`, artifactType)
}

// page is a hook that answers with one list of the referrers API.
func page(body []byte, link string) hook {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		if link != "" {
			w.Header().Set("Link", link)
		}
		w.Header().Set("Content-Type", string(types.OCIImageIndex))
		_, err := w.Write(body)
		return err == nil
	}
}

const apiPath = "/v2/app/referrers/"

func TestReferrers(t *testing.T) {
	subject := newFixture("linux/amd64", asGzip, "a")
	h := digestOf(subject.manifest)
	tag := "sha256-" + h.Hex
	sbom, sig := artifact(h, "example/sbom", "application/vnd.oci.empty.v1+json"), artifact(h, "", "example/config")
	both := []Referrer{{h, digestOf(sig), "example/config"}, {h, digestOf(sbom), "example/sbom"}}
	for _, tc := range []struct {
		name string
		hook hook
		fill func(*fakeServer)
		want []Referrer
	}{
		{"none", nil, nil, nil},
		{"API", between(1, 9, http.MethodGet, apiPath, page(indexOf(listed(sbom, "example/sbom"), listed(sig, "")), "")), nil, both},
		{"API with pages", anyOf(
			once(1, http.MethodGet, apiPath, page(indexOf(listed(sbom, "example/sbom")), `</other>; rel="prev", <?n=1&last=x,y>; rel="next"`)),
			once(1, http.MethodGet, apiPath, func(w http.ResponseWriter, r *http.Request) bool {
				return r.URL.RawQuery == "n=1&last=x,y" && page(indexOf(listed(sig, "")), "")(w, r)
			}),
		), nil, both},
		{"API, 503 once", anyOf(once(1, http.MethodGet, apiPath, says(503)),
			once(1, http.MethodGet, apiPath, page(indexOf(listed(sig, "")), ""))), nil, both[:1]},
		{"API that is a page for people", between(1, 9, http.MethodGet, apiPath, func(w http.ResponseWriter, _ *http.Request) bool {
			_, err := io.WriteString(w, "<html>")
			return err == nil
		}), nil, nil},
		{"fallback tag", nil, func(s *fakeServer) {
			s.putDoc("app", string(types.OCIImageIndex), indexOf(listed(sbom, "example/sbom"), listed(sig, "")), tag)
		}, both},
		{"fallback tag after 400", between(1, 9, http.MethodGet, apiPath, says(400)), func(s *fakeServer) {
			s.putDoc("app", string(types.OCIImageIndex), indexOf(listed(sig, "")), tag)
		}, both[:1]},
		{"fallback tag after 405", between(1, 9, http.MethodGet, apiPath, says(405)), func(s *fakeServer) {
			s.putDoc("app", string(types.OCIImageIndex), indexOf(listed(sig, "")), tag)
		}, both[:1]},
		{"listed and gone", nil, func(s *fakeServer) {
			s.putDoc("app", string(types.OCIImageIndex), indexOf(listed([]byte("gone"), "")), tag)
		}, []Referrer{{h, digestOf([]byte("gone")), string(types.OCIManifestSchema1)}}},
		{"cosign", nil, func(s *fakeServer) {
			for suffix, content := range map[string]string{".sig": "a", ".att": "b", ".sbom": "c", ".other": "d"} {
				s.putDoc("app", string(types.OCIManifestSchema1), []byte(content), tag+suffix)
			}
		}, []Referrer{
			{h, digestOf([]byte("c")), "cosign SBOM"}, {h, digestOf([]byte("b")), "cosign attestation"}, {h, digestOf([]byte("a")), "cosign signature"},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t, tc.hook)
			s.putDoc("app", string(subject.mediaType), subject.manifest, "1")
			s.putDoc("app", string(types.OCIManifestSchema1), sig)
			if tc.fill != nil {
				tc.fill(s)
			}
			o, _ := quick()
			src, err := Open(t.Context(), s.ref("app:1"), o)
			if err != nil {
				t.Fatal(err)
			}
			got, err := src.Referrers(t.Context(), []v1.Hash{h})
			if err != nil || !slices.Equal(got, tc.want) {
				t.Errorf("referrers %v (%v), want %v", got, err, tc.want)
			}
		})
	}
}

// TestReferrersHostile has lists without an end, or that lead elsewhere.
func TestReferrersHostile(t *testing.T) {
	subject := newFixture("linux/amd64", asGzip, "a")
	var many []string
	for i := range maxReferrers + 1 {
		many = append(many, listed(fmt.Append(nil, i), "t"))
	}
	for _, tc := range []struct {
		name, err string
		hook      hook
	}{
		{"pages without end", "more than 32 pages", page(indexOf(), `<?again>; rel=next`)},
		{"too many", "more than 1000 referrers", page(indexOf(many...), "")},
		{"next page elsewhere", `goes on at another host, "other.example"`, page(indexOf(), `<http://other.example/>; rel="next"`)},
		{"next page at no URL", "no URL", page(indexOf(), `<%zz>; rel="next"`)},
		{"no index", "reading a list of referrers", page([]byte(`{"schemaVersion":2,"config":{}}`), "")},
		{"huge", "a manifest of more than", page([]byte(strings.Repeat(" ", maxManifestSize+1)), "")},
		{"denied", "403 Forbidden", says(403)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t, between(1, 99, http.MethodGet, apiPath, tc.hook))
			s.putDoc("app", string(subject.mediaType), subject.manifest, "1")
			o, _ := quick()
			src, err := Open(t.Context(), s.ref("app:1"), o)
			if err != nil {
				t.Fatal(err)
			}
			_, err = src.Referrers(t.Context(), []v1.Hash{digestOf(subject.manifest)})
			wantError(t, err, tc.err, tc.name == "denied")
		})
	}
}

// TestReferrersOfRegistry asks another implementation, about several subjects.
func TestReferrersOfRegistry(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	ref := Ref{Transport: Registry, Name: host + "/app:1"}
	f := newFixture("linux/amd64", asGzip, "a")
	if _, err := Write(t.Context(), ref, f.image(t), Options{}); err != nil {
		t.Fatal(err)
	}
	c, err := newClient(repository(t, host+"/app"), "push,pull", Options{})
	if err != nil {
		t.Fatal(err)
	}
	other := digestOf([]byte("other"))
	var want []Referrer
	for _, subject := range []v1.Hash{digestOf(f.manifest), other} {
		doc := &document{mediaType: types.OCIManifestSchema1, raw: artifact(subject, "", "example/config")}
		doc.digest = digestOf(doc.raw)
		if err := c.putManifest(t.Context(), doc.digest.String(), doc); err != nil {
			t.Fatal(err)
		}
		want = append(want, Referrer{subject, doc.digest, "example/config"})
	}
	slices.SortFunc(want, func(a, b Referrer) int { return strings.Compare(a.Subject.Hex, b.Subject.Hex) })
	src, err := Open(t.Context(), ref, Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := src.Referrers(t.Context(), []v1.Hash{other, digestOf(f.manifest), digestOf(nil), other})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("referrers %v (%v), want %v", got, err, want)
	}
}

func TestReferrersOfFiles(t *testing.T) {
	f := newFixture("linux/amd64", asGzip, "a")
	src, err := Open(t.Context(), Ref{Transport: OCI, Path: writeTree(t, layoutMembers(indexOf(f.entry()), f)...)}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := src.Referrers(t.Context(), []v1.Hash{digestOf(f.manifest)}); got != nil || err != nil {
		t.Errorf("referrers %v, %v", got, err)
	}
}
