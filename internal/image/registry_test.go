package image

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// testRegistry is an in-process registry that records requests.
type testRegistry struct {
	host string
	mu   sync.Mutex
	seen []string
}

func newRegistry(t *testing.T) *testRegistry {
	t.Helper()
	r := &testRegistry{}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.seen = append(r.seen, req.Method+" "+req.URL.RequestURI())
		r.mu.Unlock()
		inner.ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	r.host = strings.TrimPrefix(server.URL, "http://")
	return r
}

// requests returns what was asked for since the last call.
func (r *testRegistry) requests() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.seen
	r.seen = nil
	return seen
}

func (r *testRegistry) ref(s string) Ref { return Ref{Transport: Registry, Name: r.host + "/" + s} }

func repository(t *testing.T, s string) name.Repository {
	t.Helper()
	r, err := name.NewRepository(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func count(requests []string, prefix string) int {
	n := 0
	for _, r := range requests {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

func TestRegistryRoundTrip(t *testing.T) {
	r := newRegistry(t)
	for _, c := range []compressor{asTar, asGzip, asZstd} {
		f := newFixture("linux/amd64", c, "a", "b", "a")
		line, err := Write(t.Context(), r.ref("team/app:1"), f.image(t), Options{UserAgent: "slim/test", Jobs: 2, Retries: 1})
		if err != nil {
			t.Fatal(err)
		}
		if want := r.host + "/team/app@" + digestOf(f.manifest).String(); line != want {
			t.Errorf("line %q, want %q", line, want)
		}
		for _, ref := range []Ref{r.ref("team/app:1"), {Transport: Registry, Name: line}} {
			img, err := openImage(t, ref, "", Options{})
			if err != nil {
				t.Fatal(err)
			}
			wantImage(t, img, f)
			if img.Ref != line || img.MediaType != f.mediaType {
				t.Errorf("%s: image %s of type %s", ref, img.Ref, img.MediaType)
			}
		}
	}
}

// TestRegistryResolvedOnce moves a tag after opening.
func TestRegistryResolvedOnce(t *testing.T) {
	r := newRegistry(t)
	one, two := newFixture("linux/amd64", asGzip, "a"), newFixture("linux/amd64", asGzip, "b")
	if _, err := Write(t.Context(), r.ref("app"), one.image(t), Options{}); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), r.ref("app"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := Write(t.Context(), r.ref("app:latest"), two.image(t), Options{}); err != nil {
		t.Fatal(err)
	}
	img, err := s.Image(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	wantImage(t, img, one)
	if want := []string{r.host + "/app:latest"}; !slices.Equal(img.Names, want) {
		t.Errorf("names %q, want %q", img.Names, want)
	}
}

// TestRegistryNoTransfer copies within a registry: no blob is downloaded or
// uploaded, and none is opened that is there.
func TestRegistryNoTransfer(t *testing.T) {
	r := newRegistry(t)
	f := newFixture("linux/amd64", asGzip, "a", "b")
	if _, err := Write(t.Context(), r.ref("from:1"), f.image(t), Options{}); err != nil {
		t.Fatal(err)
	}
	img, err := openImage(t, r.ref("from:1"), "", Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range img.Layers {
		img.Layers[i].Open = never(t)
	}
	r.requests()
	if _, err := Write(t.Context(), r.ref("from:2"), img, Options{}); err != nil {
		t.Fatal(err)
	}
	if n := count(r.requests(), "POST"); n != 0 {
		t.Errorf("%d uploads of blobs that are there", n)
	}
	source, other := repository(t, r.host+"/from"), repository(t, r.host+"/to")
	if got := mountSources(img.Layers, other); !slices.Equal(got, []name.Repository{source}) {
		t.Errorf("the layers are offered for mounting from %s, want %s", got, source)
	}
	for _, elsewhere := range []name.Repository{source, repository(t, "other.example/to")} {
		if got := mountSources(img.Layers, elsewhere); len(got) != 0 {
			t.Errorf("layers are offered to %s for mounting from %s", elsewhere, got)
		}
	}
}

// TestRegistryMount asks a registry that mounts for a blob of another of its
// repositories.
func TestRegistryMount(t *testing.T) {
	r := newRegistry(t)
	f := newFixture("linux/amd64", asGzip, "a", "b")
	if _, err := Write(t.Context(), r.ref("from:1"), f.image(t), Options{}); err != nil {
		t.Fatal(err)
	}
	img, err := openImage(t, r.ref("from:1"), "", Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range img.Layers {
		img.Layers[i].Open = never(t)
	}
	var mounts []string
	var mu sync.Mutex
	mounting := roundTripper(func(req *http.Request) (*http.Response, error) {
		status := 0
		switch {
		case req.Method == http.MethodHead && strings.Contains(req.URL.Path, "/to/blobs/"):
			status = http.StatusNotFound
		case req.Method == http.MethodPost && req.URL.Query().Get("from") == "from":
			status = http.StatusCreated
			mu.Lock()
			mounts = append(mounts, req.URL.Query().Get("mount"))
			mu.Unlock()
		default:
			return http.DefaultTransport.RoundTrip(req)
		}
		return &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
	})
	if _, err := Write(t.Context(), r.ref("to:1"), img, Options{Transport: mounting}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(mounts)
	want := []string{img.Layers[0].Digest.String(), img.Layers[1].Digest.String()}
	slices.Sort(want)
	if !slices.Equal(mounts, want) {
		t.Errorf("mounted %q, want %q", mounts, want)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// TestRegistryFailure fails in the last layer: no manifest was sent.
func TestRegistryFailure(t *testing.T) {
	for _, tc := range []struct{ name, err string }{
		{"wrong digest", "has other content"},
		{"cancelled", context.Canceled.Error()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRegistry(t)
			f := newFixture("linux/amd64", asTar, "a", strings.Repeat("b", 3*copyBuffer))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			img := f.image(t)
			img.Layers[1].Open = opens(bytes.Repeat([]byte("x"), len(f.blobs[1])))
			if tc.name == "cancelled" {
				img.Layers[1].Open = cancelling(f.blobs[1], cancel)
			}
			_, err := Write(ctx, r.ref("app:1"), img, Options{Retries: -1})
			wantError(t, err, tc.err, false)
			if n := count(r.requests(), "PUT /v2/app/manifests/"); n != 0 {
				t.Errorf("%d manifests were sent", n)
			}
		})
	}
}

func TestRegistryDigestTarget(t *testing.T) {
	r := newRegistry(t)
	f := newFixture("linux/amd64", asGzip, "a")
	if _, err := Write(t.Context(), r.ref("app@"+digestOf(f.manifest).String()), f.image(t), Options{}); err != nil {
		t.Errorf("writing an image by its own digest: %v", err)
	}
	_, err := Write(t.Context(), r.ref("app@"+digestOf(nil).String()), f.image(t), Options{})
	wantError(t, err, "names a digest", true)
}

// TestRegistryClassic pushes the image of an archive that has no manifest.
func TestRegistryClassic(t *testing.T) {
	r := newRegistry(t)
	for _, tc := range []struct {
		c              compressor
		manifest, tars types.MediaType
	}{
		{asTar, types.DockerManifestSchema2, types.DockerUncompressedLayer},
		{asGzip, types.DockerManifestSchema2, types.DockerLayer},
		{asZstd, types.OCIManifestSchema1, types.OCILayerZStd},
	} {
		f := newFixture("linux/amd64", tc.c, "a", "b")
		members, saved := f.saved("app:1")
		img, err := openImage(t, Ref{Transport: DockerArchive, Path: save(t, tarOf(append(members, savedJSON(saved))...))}, "", Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Write(t.Context(), r.ref("app:1"), img, Options{}); err != nil {
			t.Fatal(err)
		}
		got, err := openImage(t, r.ref("app:1"), "", Options{})
		if err != nil {
			t.Fatal(err)
		}
		wantContent(t, got, f.config, f.blobs)
		if got.MediaType != tc.manifest || got.Layers[0].MediaType != tc.tars {
			t.Errorf("media types %s, %s; want %s, %s", got.MediaType, got.Layers[0].MediaType, tc.manifest, tc.tars)
		}
	}
}

// TestRegistryOfCrane reads an index of another tool's making.
func TestRegistryOfCrane(t *testing.T) {
	r := newRegistry(t)
	want, err := random.Image(3000, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(repository(t, r.host+"/app").Tag("1"), want); err != nil {
		t.Fatal(err)
	}
	img, err := openImage(t, r.ref("app:1"), "", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if d, err := want.Digest(); err != nil || img.Digest != d {
		t.Errorf("digest %s, want %s (%v)", img.Digest, d, err)
	}
	if _, err := Write(t.Context(), r.ref("copy:1"), img, Options{}); err != nil {
		t.Fatal(err)
	}
}

// TestRegistryHostile answers with what a registry should not.
func TestRegistryHostile(t *testing.T) {
	f := newFixture("linux/amd64", asGzip, "a")
	other := newFixture("linux/amd64", asGzip, "b")
	for _, tc := range []struct {
		name, err string
		bodies    map[string]string // by the end of the path
		header    string            // Content-Type of manifests
	}{
		{"huge manifest", "a manifest of more than 4194304 bytes", map[string]string{"/manifests/1": strings.Repeat(" ", maxManifestSize+1)}, ""},
		{"other config", "has other content", map[string]string{
			"/manifests/1": string(f.manifest), digestOf(f.config).String(): strings.Replace(string(f.config), ":7}", ":8}", 1),
		}, ""},
		{"endless config", "is longer than", map[string]string{
			"/manifests/1": string(f.manifest), digestOf(f.config).String(): strings.Repeat(" ", maxConfigSize+10),
		}, ""},
		{"manifest of a child", "does not match", map[string]string{
			"/manifests/1": string(indexOf(f.entry())), digestOf(f.manifest).String(): string(other.manifest),
		}, string(types.OCIImageIndex)},
		{"content type of another kind", "media type", map[string]string{"/manifests/1": string(f.manifest)}, string(types.DockerManifestSchema2)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			transport := roundTripper(func(req *http.Request) (*http.Response, error) {
				resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: req, ContentLength: -1}
				for suffix, body := range tc.bodies {
					if strings.HasSuffix(req.URL.Path, suffix) {
						resp.Header.Set("Content-Type", tc.header)
						resp.Body = io.NopCloser(strings.NewReader(body))
						return resp, nil
					}
				}
				if req.URL.Path != "/v2/" {
					resp.StatusCode = http.StatusNotFound
				}
				return resp, nil
			})
			_, err := openImage(t, Ref{Transport: Registry, Name: "localhost:1/app:1"}, "", Options{Transport: transport, Retries: -1})
			wantError(t, err, tc.err, false)
		})
	}
}

func TestManifestType(t *testing.T) {
	for given, want := range map[string]types.MediaType{
		string(types.OCIManifestSchema1):                     types.OCIManifestSchema1,
		string(types.DockerManifestList) + "; charset=utf-8": types.DockerManifestList,
		string(types.DockerManifestSchema1Signed):            types.DockerManifestSchema1Signed,
		"application/json":                                   "",
		"text/plain; charset=utf-8":                          "",
		"":                                                   "",
		"application/vnd.oci.image.manifest.v1+json;":        types.OCIManifestSchema1,
	} {
		if got := manifestType(given); got != want {
			t.Errorf("%q is taken for %q, want %q", given, got, want)
		}
	}
}

func TestRegistryHints(t *testing.T) {
	answer := func(status int) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			if req.URL.Path == "/v2/" {
				status := http.StatusOK
				return &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
			}
			return &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
		})
	}
	failing := func(err error) http.RoundTripper {
		return roundTripper(func(*http.Request) (*http.Response, error) { return nil, err })
	}
	for _, tc := range []struct {
		name, ref, hint string
		transport       http.RoundTripper
	}{
		{"401 of a bare name", "app:build", "docker-daemon:app:build", answer(401)},
		{"404 of a bare name", "app:build", "docker-daemon:app:build", answer(404)},
		{"404 of a written host", "docker.io/library/app:1", "", answer(404)},
		{"403 elsewhere", "registry.example/app:1", "docker login registry.example", answer(403)},
		{"404 elsewhere", "registry.example/app:1", "", answer(404)},
		{"no TLS", "registry.example/app:1", "--insecure=registry.example", failing(errors.New("http: server gave HTTP response to HTTPS client"))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := openImage(t, Ref{Transport: Registry, Name: tc.ref}, "", Options{Transport: tc.transport, Retries: -1})
			var hint *HintError
			if !errors.As(err, &hint) {
				hint = &HintError{}
			}
			if err == nil || !strings.Contains(hint.Hint, tc.hint) || tc.hint == "" && hint.Hint != "" {
				t.Errorf("error %v with hint %q, want %q", err, hint.Hint, tc.hint)
			}
		})
	}
}

// TestRegistryTLS has a registry with a certificate that nobody signed.
func TestRegistryTLS(t *testing.T) {
	f := newFixture("linux/amd64", asGzip, "a")
	server := httptest.NewTLSServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "https://")
	// By this name the client does not take plain http for granted.
	host = strings.Replace(host, "127.0.0.1", "0.0.0.0", 1)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pemOf(server), 0o644); err != nil {
		t.Fatal(err)
	}
	ref := Ref{Transport: Registry, Name: host + "/app:1"}
	_, err := Write(t.Context(), ref, f.image(t), Options{Retries: -1})
	wantError(t, err, "certificate", true)
	for _, insecure := range []string{"*", host, "0.0.0.0"} {
		if _, err := Write(t.Context(), ref, f.image(t), Options{Insecure: []string{insecure}}); err != nil {
			t.Errorf("insecure %q: %v", insecure, err)
		}
	}
	if _, err := Write(t.Context(), ref, f.image(t), Options{Insecure: []string{"other.example"}, Retries: -1}); err == nil {
		t.Error("the certificate was taken without being allowed to")
	}
	local := Ref{Transport: Registry, Name: strings.Replace(host, "0.0.0.0", "127.0.0.1", 1) + "/app:1"}
	if _, err := Write(t.Context(), local, f.image(t), Options{CAFile: ca}); err != nil {
		t.Errorf("with the server's certificate: %v", err)
	}
	_, err = Write(t.Context(), ref, f.image(t), Options{CAFile: save(t, nil)})
	wantError(t, err, "none in PEM form", false)
}

func pemOf(server *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}

func TestAuthFile(t *testing.T) {
	auth := func(user string) string { return base64.StdEncoding.EncodeToString([]byte(user + ":secret")) }
	path := filepath.Join(t.TempDir(), "auth.json")
	content := fmt.Sprintf(`{"auths":{"registry.example/team":{"auth":%q},"registry.example":{"auth":%q},"docker.io":{"auth":%q},"https://old.example/v1/":{"auth":%q}}}`,
		auth("team"), auth("all"), auth("hub"), auth("old"))
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]string{
		"registry.example/team/app": "team", "registry.example/other": "all", "app": "hub", "other.example/app": "", "old.example/app": "old",
	} {
		a, err := (Options{AuthFile: path}).keychain().Resolve(repository(t, ref))
		if err != nil {
			t.Fatal(err)
		}
		c, err := a.Authorization()
		if err != nil || c.Username != want {
			t.Errorf("%s: user %q, %v; want %q", ref, c.Username, err, want)
		}
	}
	t.Setenv("REGISTRY_AUTH_FILE", path)
	repo := repository(t, "registry.example/other")
	a, err := (Options{}).keychain().Resolve(repo)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := a.Authorization(); err != nil || c.Username != "all" {
		t.Errorf("REGISTRY_AUTH_FILE: user %q, %v", c.Username, err)
	}
	if _, err := authFile(path + ".none").Resolve(repo); err == nil {
		t.Error("an absent file gave credentials")
	}
}

func TestRepositoryTyped(t *testing.T) {
	typed := map[string]string{
		"app": "app", "app:1": "app", "host:5000/app": "host:5000/app", "host:5000/app:1": "host:5000/app",
		"app:1@" + digestOf(nil).String(): "app", "docker.io/library/app:1": "docker.io/library/app",
	}
	for _, s := range slices.Sorted(maps.Keys(typed)) {
		if got := repositoryTyped(s); got != typed[s] {
			t.Errorf("%q has repository %q, want %q", s, got, typed[s])
		}
	}
}
