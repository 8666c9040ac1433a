package image

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// basic is a hook of a registry that wants a password.
func basic(user, password string) hook {
	return func(w http.ResponseWriter, r *http.Request) bool {
		u, p, _ := r.BasicAuth()
		if u == user && p == password {
			return false
		}
		return says(http.StatusUnauthorized, "WWW-Authenticate", `Basic realm="registry"`)(w, r)
	}
}

// authOf writes credentials of a registry to a file.
func authOf(t *testing.T, host, user, password string) string {
	t.Helper()
	return save(t, fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte(user+":"+password))))
}

// tokens is a token server beside a registry that takes nothing but its newest
// token. Its hook comes before those of the registry.
type tokens struct {
	mu      sync.Mutex
	serial  int
	scopes  []string // of each token
	refused string   // a scope that is refused with all others
}

// hook implements hook.
func (k *tokens) hook(w http.ResponseWriter, r *http.Request) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if r.URL.Path == "/token" {
		scope := strings.Join(r.URL.Query()["scope"], " ")
		if k.refused != "" && strings.Contains(scope, k.refused) {
			w.WriteHeader(http.StatusForbidden)
			return true
		}
		k.serial++
		k.scopes = append(k.scopes, scope)
		_, _ = fmt.Fprintf(w, `{"token":"secret-token-%d"}`, k.serial)
		return true
	}
	if k.serial > 0 && r.Header.Get("Authorization") == fmt.Sprintf("Bearer secret-token-%d", k.serial) {
		return false
	}
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="registry"`, r.Host))
	w.WriteHeader(http.StatusUnauthorized)
	return true
}

// expire makes the newest token worthless.
func (k *tokens) expire() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.serial++
}

// granted are the scopes of the tokens so far.
func (k *tokens) granted() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.scopes)
}

// TestTokenExpires lets a token expire before and in the middle of requests.
func TestTokenExpires(t *testing.T) {
	k := &tokens{}
	s := newServer(t, nil)
	refuse := s.half(func(w http.ResponseWriter, r *http.Request) bool {
		k.expire()
		return k.hook(w, r)
	})
	s.hook = anyOf(k.hook, once(1, http.MethodPatch, "/uploads/", refuse))
	data := noise(1 << 20)
	l, _ := layerOf(data)
	o, waits := quick()
	o.Retries = -1
	c := s.client("app", o)
	if err := c.putBlob(t.Context(), l); err != nil || !s.has("app", data) {
		t.Fatalf("error %v", err)
	}
	var requests []string
	for _, r := range s.requests() {
		if !strings.HasPrefix(r, "GET /token") {
			requests = append(requests, r)
		}
	}
	wantList(t, requests, headStep, postStep, patchStep, headStep, askStep, patchStep+" 524288-1048575", putStep)
	waits.want(t)

	k.expire()
	doc := &document{mediaType: types.OCIManifestSchema1, raw: []byte("{}")}
	if err := c.putManifest(t.Context(), "1", doc); err != nil || string(s.docs["app:1"]) != "{}" {
		t.Errorf("error %v; the manifest is %q", err, s.docs["app:1"])
	}
	for _, scope := range k.granted() {
		if scope != "repository:app:push,pull" {
			t.Errorf("a token for %q", scope)
		}
	}
	if n := len(k.granted()); n != 3 {
		t.Errorf("%d tokens, want 3", n)
	}
}

// TestTokenNeverHolds ends when a registry refuses every token for content.
func TestTokenNeverHolds(t *testing.T) {
	k := &tokens{}
	s := newServer(t, nil)
	s.hook = anyOf(k.hook, between(1, 999, http.MethodPatch, "/uploads/", func(w http.ResponseWriter, r *http.Request) bool {
		_, _ = io.Copy(io.Discard, r.Body) // nothing of it is kept
		k.expire()
		return k.hook(w, r)
	}))
	l, _ := layerOf(noise(1000))
	o, _ := quick()
	err := s.client("app", o).putBlob(t.Context(), l)
	wantError(t, err, errSpent.Error(), false)
	if n := count(s.requests(), patchStep); n != maxTurns+1 {
		t.Errorf("content was sent %d times", n)
	}
}

// TestOneToken writes an image and reads it back with one token.
func TestOneToken(t *testing.T) {
	k := &tokens{}
	s := newServer(t, k.hook)
	f := newFixture("linux/amd64", asGzip, "a", "b", "c")
	proved := 0
	o := Options{Jobs: 3, Prove: func(_ context.Context, img *Image) error {
		proved++
		wantImage(t, img, f)
		return nil
	}}
	if _, err := Write(t.Context(), s.ref("app:1"), f.image(t), o); err != nil || proved != 1 {
		t.Fatalf("error %v, proved %d times", err, proved)
	}
	if got := k.granted(); !slices.Equal(got, []string{"repository:app:push,pull"}) {
		t.Errorf("tokens for %q", got)
	}
}

// TestMountScopes asks for the right to read where blobs can be mounted from,
// and goes without it where that is refused.
func TestMountScopes(t *testing.T) {
	const target, source = "repository:app:push,pull", "repository:from:pull"
	data := noise(1000)
	for _, tc := range []struct {
		name, refused string
		mount         hook
		want          []string
	}{
		{"granted", "", nil, []string{target + " " + source}},
		{"refused by the token server", source, nil, []string{target}},
		{"refused by the registry", "", func(w http.ResponseWriter, r *http.Request) bool {
			return r.URL.Query().Has("mount") && says(http.StatusForbidden)(w, r)
		}, []string{target + " " + source, target}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := &tokens{refused: tc.refused}
			s := newServer(t, k.hook)
			if tc.mount != nil {
				s.hook = anyOf(k.hook, tc.mount)
			}
			l, _ := layerOf(data)
			l.origins = []registryBlob{{s.repo("from")}}
			o, _ := quick()
			if err := pushBlobs(t.Context(), s.client("app", o, s.repo("from")), []Layer{l}, 1); err != nil {
				t.Fatal(err)
			}
			if got := k.granted(); !slices.Equal(got, tc.want) {
				t.Errorf("tokens for %q, want %q", got, tc.want)
			}
			if !s.has("app", data) {
				t.Error("the blob is not there")
			}
		})
	}
}

// TestCredentials keeps credentials from a host.
func TestCredentials(t *testing.T) {
	for allowed, want := range map[bool]string{true: "", false: "401 Unauthorized"} {
		s := newServer(t, basic("user", "secret"))
		s.putDoc("app", string(types.OCIManifestSchema1), []byte("{}"), "1")
		o, _ := quick()
		o.AuthFile = authOf(t, s.host, "user", "secret")
		o.Credentials = func(host string) bool { return allowed || host != s.host }
		_, err := s.client("app", o).getManifest(t.Context(), "1", "")
		if got := errorText(err); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("allowed %t: error %v, want %q", allowed, err, want)
		}
	}
}

// TestRedirect follows a registry to another host, without credentials and with
// the range.
func TestRedirect(t *testing.T) {
	data := noise(5000)
	var mu sync.Mutex
	var seen []string
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen = append(seen, r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("Range")+" "+r.Header.Get("Authorization"))
		first := len(seen) == 1
		mu.Unlock()
		if first {
			w.Header().Set("Content-Length", "5000")
			_, _ = w.Write(data[:2000]) // the client sees it
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(data)))
	}))
	store.Config.ErrorLog = nil
	t.Cleanup(store.Close)
	elsewhere := strings.Replace(store.URL, "127.0.0.1", "localhost", 1) + "/b?X-Amz-Signature=signed"
	for name, auth := range map[string]func() hook{
		"basic":  func() hook { return basic("user", "secret") },
		"bearer": func() hook { return (&tokens{}).hook },
	} {
		t.Run(name, func(t *testing.T) {
			seen = nil
			s := newServer(t, anyOf(auth(), between(1, 9, http.MethodGet, "/blobs/", func(w http.ResponseWriter, r *http.Request) bool {
				http.Redirect(w, r, elsewhere, http.StatusTemporaryRedirect)
				return true
			})))
			o, _ := quick()
			o.AuthFile = authOf(t, s.host, "user", "secret")
			rc, err := s.client("app", o).getBlob(t.Context(), digestOf(data), 5000)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(rc); err != nil || string(got) != string(data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			want := []string{"GET /b?X-Amz-Signature=signed  ", "GET /b?X-Amz-Signature=signed bytes=2000- "}
			if !slices.Equal(seen, want) {
				t.Errorf("requests %q, want %q", seen, want)
			}
		})
	}
}

// TestRedirectsRefused does not follow everywhere.
func TestRedirectsRefused(t *testing.T) {
	for to, want := range map[string]string{
		"http://169.254.169.254/latest": "address of an internal network",
		"http://2130706433/":            "address of an internal network",
		"http://[fe80::1]/":             "address of an internal network",
		"/v2/app/blobs/again":           "more than 10 redirects",
		"ftp://example.com/":            "unsupported protocol scheme",
	} {
		s := newServer(t, between(1, 99, http.MethodGet, "/blobs/", func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, to, http.StatusFound)
			return true
		}))
		o, waits := quick()
		_, err := s.client("app", o).getBlob(t.Context(), digestOf(nil), 0)
		wantError(t, err, want, false)
		waits.want(t)
	}
}

// TestSecrets makes requests fail in ways whose errors have secrets.
func TestSecrets(t *testing.T) {
	secrets := []string{"s3cret", "S1gned", "secret-token", "t0ken", base64.StdEncoding.EncodeToString([]byte("user:s3cret"))}
	bearer := func(realm string) hook {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/token" {
				return false
			}
			return says(http.StatusUnauthorized, "WWW-Authenticate", fmt.Sprintf("Bearer realm=%q", strings.ReplaceAll(realm, "HOST", r.Host)))(w, r)
		}
	}
	token := func(status int, body string) hook {
		return once(1, http.MethodGet, "/token", func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
			return true
		})
	}
	echo := func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/v2/app/") {
			w.WriteHeader(http.StatusForbidden)
			_, _ = fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":"no %s"}]}`, r.Header.Get("Authorization"))
			return true
		}
		return false
	}
	redirects := func(to string) hook {
		return func(w http.ResponseWriter, r *http.Request) bool {
			return strings.HasPrefix(r.URL.Path, "/v2/app/") && says(http.StatusFound, "Location", to)(w, r)
		}
	}
	for _, tc := range []struct {
		name, want string
		hook       hook
	}{
		{"wrong password", "401 Unauthorized", basic("user", "other")},
		{"wrong password at the token server", "/token: 401 Unauthorized", anyOf(bearer("http://HOST/token?t0ken=t0ken"), token(401, `{"errors":[{"code":"UNAUTHORIZED","message":"wrong: s3cret"}]}`))},
		{"token server without a token", "no token in bearer response", anyOf(bearer("http://HOST/token"), token(200, `{"refresh_token":"t0ken"}`))},
		{"echo of a password", `DENIED: no Basic ***`, anyOf(basic("user", "s3cret"), echo)},
		{"echo of a token", `DENIED: no Bearer ***`, anyOf((&tokens{}).hook, echo)},
		{"user in the realm", "token", bearer("http://user:s3cret@HOST/token?x=t0ken")},
		{"realm of a private host", "private", bearer("http://user:s3cret@10.0.0.1/token?x=t0ken")},
		{"realm that is no URL", "parsing realm", bearer("http://user:s3c ret@HOST/%zz?x=t0ken s3cret")},
		{"no realm", "missing realm", func(w http.ResponseWriter, r *http.Request) bool {
			return says(http.StatusUnauthorized, "WWW-Authenticate", `Bearer service="t0ken"`)(w, r)
		}},
		{"signed redirect to nowhere", "http://localhost:1/x", redirects("http://localhost:1/x?X-Amz-Signature=S1gned")},
		{"signed redirect inside", "internal network", redirects("http://user:s3cret@10.1.2.3/x?X-Amz-Signature=S1gned")},
		{"signed redirect to no URL", "Location header", redirects("http://localhost:1/%zz?X-Amz-Signature=S1gned s3cret")},
		{"signed redirect that is refused", "404 Not Found", redirects("/other?X-Amz-Signature=S1gned")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t, tc.hook)
			o, _ := quick()
			o.AuthFile, o.Retries = authOf(t, s.host, "user", "s3cret"), -1
			_, err := Open(t.Context(), s.ref("app:1"), o)
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q, want one with %q", err, tc.want)
			}
			for _, secret := range secrets {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("error %q has the secret %q", err, secret)
				}
			}
		})
	}
}

func TestHide(t *testing.T) {
	for text, want := range map[string]string{
		`Get "https://user:pw@host/p?sig=x": EOF`:              `Get "https://host/p": EOF`,
		`Get "https://host/p?a=b c\"d": EOF`:                   `Get "https://host/p": EOF`,
		`leads to https://u:p/w@host/p?x#y and on`:             `leads to https://host/p and on`,
		`the password is hunter2, really: hunter2`:             `the password is ***, really: ***`,
		`tag "a" of registry.example/app@sha256:00 is missing`: `tag "a" of registry.example/app@sha256:00 is missing`,
	} {
		if got := hide(text, []string{"hunter2"}); got != want {
			t.Errorf("%s\nis now\n%s\nwant\n%s", text, got, want)
		}
	}
	if got := printable("a\x1b[2J\"b\""); got != `a\x1b[2J"b"` {
		t.Errorf("printable: %s", got)
	}
}

// TestRetry sends requests again, or does not.
func TestRetry(t *testing.T) {
	manifest := []byte("{}")
	soon := time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat)
	long := strings.Repeat("s", 1000)
	for _, tc := range []struct {
		name, err string
		retries   int
		hook      hook
		wait      []int
	}{
		{"408", "", 0, says(408), []int{1, 3, 9}},
		{"425", "", 0, says(425), []int{1, 3, 9}},
		{"429", "", 0, says(429), []int{1, 3, 9}},
		{"500", "", 0, says(500), []int{1, 3, 9}},
		{"502", "", 0, says(502), []int{1, 3, 9}},
		{"503", "", 0, says(503), []int{1, 3, 9}},
		{"504", "", 0, says(504), []int{1, 3, 9}},
		{"three are too few", "500 Internal Server Error", 2, says(500), []int{1, 3}},
		{"never", "500 Internal Server Error", -1, says(500), nil},
		{"400", "400 Bad Request", 0, says(400), nil},
		{"404", "404 Not Found", 0, says(404), nil},
		{"501", "501 Not Implemented", 0, says(501), nil},
		{"wait of seconds", "", 0, says(503, "Retry-After", "50"), []int{50, 50, 50}},
		{"wait of none", "", 0, says(503, "Retry-After", "0"), []int{1, 3, 9}},
		{"wait of too long", "the registry asks to wait for 2m1s", 0, says(503, "Retry-After", "121"), nil},
		{"wait of an age", "the registry asks to wait for 24h0m0s", 0, says(503, "Retry-After", "9223372036854775807"), nil},
		{"wait of nonsense", "", 0, says(503, "Retry-After", "soon"), []int{1, 3, 9}},
		{"wait of a date", "", 0, says(503, "Retry-After", soon), []int{89, 89, 89}},
		{"message", `403 Forbidden: "` + long[:maxQuoted] + "…", 0, func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusForbidden)
			_, err := io.WriteString(w, long)
			return err == nil
		}, nil},
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut} {
			// To HEAD these are answers, or have no body.
			if method == http.MethodHead && slices.Contains([]string{"404", "501", "message"}, tc.name) {
				continue
			}
			t.Run(tc.name+", "+method, func(t *testing.T) {
				s := newServer(t, between(1, 3, method, "/manifests/", tc.hook))
				s.putDoc("app", string(types.OCIManifestSchema1), manifest, "1")
				o, waits := quick()
				o.Retries = tc.retries
				err := sendManifest(t.Context(), s.client("app", o), method, manifest)
				if got := errorText(err); tc.err == "" && got != "" || !strings.Contains(got, tc.err) {
					t.Errorf("error %v, want %q", err, tc.err)
				}
				waits.want(t, tc.wait...)
			})
		}
	}
}

// sendManifest sends one of the requests about manifests.
func sendManifest(ctx context.Context, c *client, method string, manifest []byte) error {
	var err error
	switch method {
	case http.MethodGet:
		_, err = c.getManifest(ctx, "1", "")
	case http.MethodHead:
		_, _, err = c.headManifest(ctx, "1")
	case http.MethodPut:
		err = c.putManifest(ctx, "1", &document{mediaType: types.OCIManifestSchema1, raw: manifest})
	}
	return err
}

// TestRetryLogin tries again where a registry or its token server is not ready,
// and not where there is none.
func TestRetryLogin(t *testing.T) {
	ready := func(h hook) (*fakeServer, Options, *delays) {
		s := newServer(t, h)
		s.putDoc("app", string(types.OCIManifestSchema1), []byte("{}"), "1")
		o, waits := quick()
		return s, o, waits
	}
	s, o, waits := ready(once(1, http.MethodGet, "/v2/", says(503)))
	if _, err := s.client("app", o).getManifest(t.Context(), "1", ""); err != nil {
		t.Error(err)
	}
	waits.want(t, 1)
	s, o, waits = ready(anyOf(once(1, http.MethodGet, "/token", says(503)), (&tokens{}).hook))
	if _, err := s.client("app", o).getManifest(t.Context(), "1", ""); err != nil {
		t.Error(err)
	}
	waits.want(t, 1)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	o, waits = quick()
	_, err := Open(t.Context(), Ref{Transport: Registry, Name: strings.TrimPrefix(gone.URL, "http://") + "/app:1"}, o)
	wantError(t, err, "connection refused", true)
	waits.want(t)
	o.AuthFile = "nowhere/config.json"
	_, err = Open(t.Context(), s.ref("app:1"), o)
	wantError(t, err, "reading credentials", false)
	waits.want(t)
}

// TestManifests reads manifests of all kinds by tag and digest.
func TestManifests(t *testing.T) {
	raw := []byte(`{"schemaVersion":2}`)
	sha512, err := hashAs("sha512", raw)
	if err != nil {
		t.Fatal(err)
	}
	var accepted string
	for _, tc := range []struct {
		name, reference, err string
		claimed              types.MediaType
		header               string // Docker-Content-Digest; "-" for none
		want                 v1.Hash
	}{
		{"tag", "1", "", "", "", digestOf(raw)},
		{"tag without a header", "1", "", "", "-", digestOf(raw)},
		{"tag with nonsense", "1", "", "", "sha256:x", digestOf(raw)},
		{"tag with another digest", "1", "does not match " + digestOf(nil).String(), "", digestOf(nil).String(), v1.Hash{}},
		{"tag with a digest of sha512", "1", "", "", sha512.String(), sha512},
		{"digest", digestOf(raw).String(), "", "", "", digestOf(raw)},
		{"digest of sha512", sha512.String(), "", "", "-", sha512},
		{"other digest", digestOf(nil).String(), "does not match " + digestOf(nil).String(), "", "-", v1.Hash{}},
		{"unknown type", digestOf(raw).String(), "", "application/vnd.example.thing+json", "", digestOf(raw)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t, between(1, 9, http.MethodGet, "/manifests/", func(w http.ResponseWriter, r *http.Request) bool {
				accepted = r.Header.Get("Accept")
				if h := tc.header; h == "" {
					w.Header().Set("Docker-Content-Digest", digestOf(raw).String())
				} else if h != "-" {
					w.Header().Set("Docker-Content-Digest", h)
				}
				_, err := w.Write(raw)
				return err == nil
			}))
			o, _ := quick()
			m, err := s.client("app", o).getManifest(t.Context(), tc.reference, tc.claimed)
			if tc.err != "" {
				wantError(t, err, tc.err, false)
				return
			}
			if err != nil || m.digest != tc.want || string(m.raw) != string(raw) {
				t.Errorf("digest %s, %v; want %s", m.digest, err, tc.want)
			}
			for _, mt := range append(slices.Clone(acceptedManifests), tc.claimed) {
				if !strings.Contains(accepted, string(mt)) {
					t.Errorf("Accept %q lacks %s", accepted, mt)
				}
			}
		})
	}
	if got := accepting("text/x\r\nA: b")["Accept"]; strings.Contains(got, "A: b") {
		t.Errorf("Accept %q", got)
	}
}

// TestHead finds tags and digests, also where HEAD is refused.
func TestHead(t *testing.T) {
	raw := []byte("{}")
	noDigest := func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusOK)
		return true
	}
	for _, tc := range []struct {
		name  string
		hook  hook
		reads int
	}{{"head", nil, 0}, {"405", says(405), 1}, {"501", says(501), 1}, {"no digest", noDigest, 1}} {
		t.Run(tc.name, func(t *testing.T) {
			h := func(http.ResponseWriter, *http.Request) bool { return false }
			if tc.hook != nil {
				h = between(1, 9, http.MethodHead, "/manifests/", tc.hook)
			}
			s := newServer(t, h)
			want := s.putDoc("app", string(types.OCIManifestSchema1), raw, "1")
			o, _ := quick()
			c := s.client("app", o)
			got, found, err := c.headManifest(t.Context(), "1")
			if err != nil || !found || got != want {
				t.Errorf("%s, %t, %v; want %s", got, found, err, want)
			}
			if n := count(s.requests(), http.MethodGet); n != tc.reads {
				t.Errorf("%d manifests were read, want %d", n, tc.reads)
			}
			if _, found, err := c.headManifest(t.Context(), "2"); found || err != nil {
				t.Errorf("a tag that does not exist: %t, %v", found, err)
			}
		})
	}
}

// TestExpect replaces a tag only where it is what it was.
func TestExpect(t *testing.T) {
	old, now := newFixture("linux/amd64", asGzip, "a"), newFixture("linux/amd64", asGzip, "b")
	f := newFixture("linux/amd64", asGzip, "c")
	for _, tc := range []struct {
		name, tag, err string
		there          *fixture
	}{
		{"same", "1", "", &old},
		{"moved", "1", fmt.Sprintf("the tag moved: it was %s and is %s now", digestOf(old.manifest), digestOf(now.manifest)), &now},
		{"gone", "1", fmt.Sprintf("the tag moved: it was %s and is gone now", digestOf(old.manifest)), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t, nil)
			if tc.there != nil {
				s.putDoc("app", string(tc.there.mediaType), tc.there.manifest, "1")
			}
			_, err := Write(t.Context(), s.ref("app:1"), f.image(t), Options{Expect: digestOf(old.manifest)})
			if tc.err == "" {
				if err != nil || string(s.docs["app:1"]) != string(f.manifest) {
					t.Errorf("error %v", err)
				}
				return
			}
			wantError(t, err, tc.err, false)
			if n := count(s.requests(), "PUT app/manifests/"); n != 0 {
				t.Error("the tag was put")
			}
		})
	}
	s := newServer(t, nil)
	if _, err := Write(t.Context(), s.ref("app@"+digestOf(f.manifest).String()), f.image(t), Options{Expect: digestOf(nil)}); err != nil {
		t.Errorf("a digest cannot move: %v", err)
	}
}

// TestErrorsStay keeps what callers look for in errors without secrets.
func TestErrorsStay(t *testing.T) {
	inner := fmt.Errorf("x: %w", io.ErrUnexpectedEOF)
	err := redact(inner, nil)
	if !errors.Is(err, io.ErrUnexpectedEOF) || !retryable(err) || redact(err, nil) != err || redact(nil, nil) != nil {
		t.Errorf("error %v", err)
	}
}
