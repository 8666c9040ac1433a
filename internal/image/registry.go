package image

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/docker/cli/cli/config"
	clitypes "github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"
)

// defaultJobs is how many blobs go up at a time where Options.Jobs is zero.
const defaultJobs = 4

// registryBlob says where a layer's blob is, so that a target in the same
// registry can mount it instead of uploading it.
type registryBlob struct {
	repo name.Repository
}

// registryStore reads one repository of a registry; it is a blobStore.
type registryStore struct {
	repo   name.Repository
	typed  string // the reference as the user wrote it
	puller *remote.Puller
	// root is the document that the reference was resolved to.
	root       []byte
	rootDigest v1.Hash
}

// openRegistry resolves the reference to a digest; every later read goes by
// digest.
func openRegistry(ctx context.Context, ref Ref, o Options) (*Source, error) {
	r, err := o.registryReference(ref)
	if err != nil {
		return nil, err
	}
	opts, err := o.remoteOptions()
	if err != nil {
		return nil, err
	}
	puller, err := remote.NewPuller(opts...)
	if err != nil {
		return nil, err
	}
	store := &registryStore{repo: r.Context(), typed: ref.Name, puller: puller}
	desc, err := puller.Get(ctx, r)
	if err != nil {
		return nil, store.explain(fmt.Errorf("reading %s: %w", ref, err))
	}
	store.root, store.rootDigest = desc.Manifest, desc.Digest
	root := descriptor{MediaType: manifestType(desc.MediaType), Digest: desc.Digest, Size: desc.Size}
	w := walk{store: store, ref: repositoryTyped(ref.Name), roots: []descriptor{root}}
	if _, tagged := r.(name.Tag); tagged {
		w.names = []string{w.ref + ":" + r.Identifier()}
	}
	return &Source{tree: w.tree}, nil
}

// registryReference parses a registry reference; Docker Hub, library/ and
// latest are the defaults.
func (o Options) registryReference(ref Ref) (name.Reference, error) {
	s := ref.Name
	r, err := name.ParseReference(s)
	if err == nil && o.insecure(r.Context().RegistryStr()) {
		r, err = name.ParseReference(s, name.Insecure)
	}
	if err != nil {
		return nil, &UsageError{Msg: err.Error()}
	}
	return r, nil
}

// repositoryTyped is a reference as written without its tag and digest.
func repositoryTyped(s string) string {
	s, _, _ = strings.Cut(s, "@")
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, '/') {
		s = s[:i]
	}
	return s
}

// manifestType strips parameters from a Content-Type, and answers of a server
// that knows no manifest types: the document's own mediaType field counts then.
func manifestType(contentType types.MediaType) types.MediaType {
	t, _, err := mime.ParseMediaType(string(contentType))
	if mt := types.MediaType(t); err == nil && (mt.IsImage() || mt.IsIndex() || mt.IsSchema1()) {
		return mt
	}
	return ""
}

// blob implements blobStore.
func (s *registryStore) blob(ctx context.Context, h v1.Hash) (io.ReadCloser, error) {
	l, err := s.puller.Layer(ctx, s.repo.Digest(h.String()))
	if err != nil {
		return nil, s.explain(err)
	}
	rc, err := l.Compressed()
	if err != nil {
		return nil, s.explain(err)
	}
	return rc, nil
}

// manifest implements blobStore.
func (s *registryStore) manifest(ctx context.Context, h v1.Hash) (io.ReadCloser, error) {
	if h == s.rootDigest {
		return io.NopCloser(bytes.NewReader(s.root)), nil
	}
	d, err := s.puller.Get(ctx, s.repo.Digest(h.String()))
	if err != nil {
		return nil, s.explain(err)
	}
	return io.NopCloser(bytes.NewReader(d.Manifest)), nil
}

// has implements blobStore.
func (s *registryStore) has(v1.Hash) bool { return true }

// origin implements blobStore.
func (s *registryStore) origin() *registryBlob { return &registryBlob{repo: s.repo} }

// explain adds the remedy to errors that have one.
func (s *registryStore) explain(err error) error {
	return explainRegistry(err, s.typed, s.repo.Registry)
}

func explainRegistry(err error, typed string, registry name.Registry) error {
	var status *transport.Error
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	host := registry.RegistryStr()
	hint := ""
	var explained *HintError
	switch {
	case errors.As(err, &explained): // by the source that a layer came from
	case errors.As(err, &status):
		denied := status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden
		missing := status.StatusCode == http.StatusNotFound
		switch {
		case (denied || missing) && host == name.DefaultRegistry && !strings.Contains(typed, "docker.io/"):
			hint = fmt.Sprintf("this name means Docker Hub; for an image of the local engine: docker save %s | slim squash - TARGET", typed)
		case denied:
			hint = fmt.Sprintf("log in with docker login %s", host)
		}
	case errors.As(err, &authority) || errors.As(err, &hostname):
		hint = fmt.Sprintf("give the registry's certificate with --ca-file, or trust any with --insecure=%s", host)
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		hint = fmt.Sprintf("for a registry without TLS: --insecure=%s", host)
	}
	if hint == "" {
		return err
	}
	return &HintError{Err: err, Hint: hint}
}

// insecure tells whether TLS of a host, given with its port, is not required.
func (o Options) insecure(host string) bool {
	for _, h := range o.Insecure {
		bare, _, _ := strings.Cut(host, ":")
		if h == "*" || strings.EqualFold(h, host) || strings.EqualFold(h, bare) {
			return true
		}
	}
	return false
}

// remoteOptions turns the options into those of the registry client.
func (o Options) remoteOptions() ([]remote.Option, error) {
	rt, err := o.roundTripper()
	if err != nil {
		return nil, err
	}
	opts := []remote.Option{remote.WithTransport(rt), remote.WithAuthFromKeychain(o.keychain())}
	if o.UserAgent != "" {
		opts = append(opts, remote.WithUserAgent(o.UserAgent))
	}
	if o.Jobs > 0 {
		opts = append(opts, remote.WithJobs(o.Jobs))
	}
	if o.Retries != 0 {
		backoff := remote.Backoff{Duration: time.Second, Factor: 3, Jitter: 0.1, Steps: max(o.Retries, 0) + 1, Cap: time.Minute}
		opts = append(opts, remote.WithRetryBackoff(backoff))
	}
	return opts, nil
}

// roundTripper is Options.Transport or the default one with the options'
// certificates, and reads no manifest without a bound.
func (o Options) roundTripper() (http.RoundTripper, error) {
	if o.Transport != nil {
		return manifestLimiter{o.Transport}, nil
	}
	secure := http.DefaultTransport.(*http.Transport).Clone()
	if t, ok := remote.DefaultTransport.(*http.Transport); ok {
		secure = t.Clone()
	}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading certificates: %w", err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading certificates: %q holds none in PEM form", o.CAFile)
		}
		secure.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	if len(o.Insecure) == 0 {
		return manifestLimiter{secure}, nil
	}
	insecure := secure.Clone()
	insecure.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // asked for by --insecure
	return manifestLimiter{byHost{secure: secure, insecure: insecure, o: o}}, nil
}

// byHost sends requests to hosts that need no verified TLS another way.
type byHost struct {
	secure, insecure http.RoundTripper
	o                Options
}

// RoundTrip implements http.RoundTripper.
func (t byHost) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.o.insecure(req.URL.Host) {
		return t.insecure.RoundTrip(req)
	}
	return t.secure.RoundTrip(req)
}

// manifestLimiter bounds how much of a manifest is read: the client library
// would take 100 MiB into memory.
type manifestLimiter struct{ inner http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t manifestLimiter) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.inner.RoundTrip(req)
	if err == nil && resp.Body != nil && strings.Contains(req.URL.Path, "/manifests/") {
		resp.Body = readCloser{&boundedReader{r: resp.Body, left: maxManifestSize}, resp.Body}
	}
	return resp, err
}

// boundedReader fails where io.LimitReader would pretend the end.
type boundedReader struct {
	r    io.Reader
	left int64
}

// Read implements io.Reader.
func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("a manifest of more than %d bytes", int64(maxManifestSize))
	}
	return n, err
}

// keychain finds credentials: in Options.AuthFile alone if that is set, else
// in REGISTRY_AUTH_FILE and then where docker and podman keep them.
func (o Options) keychain() authn.Keychain {
	if o.AuthFile != "" {
		return authFile(o.AuthFile)
	}
	if path := os.Getenv("REGISTRY_AUTH_FILE"); path != "" {
		if _, err := os.Stat(path); err == nil {
			return authn.NewMultiKeychain(authFile(path), authn.DefaultKeychain)
		}
	}
	return authn.DefaultKeychain
}

// authFile is a keychain from one file in the form of docker's config.json,
// credential helpers included.
type authFile string

// Resolve implements authn.Keychain.
func (path authFile) Resolve(target authn.Resource) (authn.Authenticator, error) {
	f, err := os.Open(string(path))
	if err != nil {
		return nil, fmt.Errorf("reading credentials: %w", err)
	}
	defer f.Close()
	cf, err := config.LoadFromReader(f)
	if err != nil {
		return nil, fmt.Errorf("reading credentials from %q: %w", string(path), err)
	}
	c := entryFor(cf.AuthConfigs, target)
	if c == nil {
		helped, err := cf.GetAuthConfig(registryKey(target))
		if err != nil {
			return nil, fmt.Errorf("reading credentials of %s: %w", target.RegistryStr(), err)
		}
		c = &helped
	}
	c.ServerAddress = ""
	if *c == (clitypes.AuthConfig{}) {
		return authn.Anonymous, nil
	}
	return authn.FromConfig(authn.AuthConfig{
		Username: c.Username, Password: c.Password, Auth: c.Auth,
		IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken,
	}), nil
}

// registryKey is the name under which docker keeps credentials of a registry.
func registryKey(target authn.Resource) string {
	if target.RegistryStr() == name.DefaultRegistry {
		return authn.DefaultAuthKey
	}
	return target.RegistryStr()
}

// entryFor finds credentials of a repository, of the namespaces above it or of
// the registry, as containers-auth.json(5) has them; nil if there are none.
func entryFor(auths map[string]clitypes.AuthConfig, target authn.Resource) *clitypes.AuthConfig {
	key := target.String()
	if rest, ok := strings.CutPrefix(key, name.DefaultRegistry); ok {
		key = "docker.io" + rest
	}
	for {
		if c, ok := auths[key]; ok {
			return &c
		}
		i := strings.LastIndexByte(key, '/')
		if i < 0 {
			return nil
		}
		key = key[:i]
	}
}

// writeRegistry pushes all blobs, then the documents from below, and the root
// under its tag after all of them, so that no tag ever names an incomplete image.
func writeRegistry(ctx context.Context, target Ref, doc *document, images []*Image, o Options) (string, error) {
	ref, err := o.registryReference(target)
	if err != nil {
		return "", err
	}
	if d, ok := ref.(name.Digest); ok && d.DigestStr() != doc.digest.String() {
		return "", &UsageError{Msg: fmt.Sprintf("%s names a digest, and the image to write has %s", target, doc.digest), Hint: "name a tag"}
	}
	opts, err := o.remoteOptions()
	if err != nil {
		return "", err
	}
	pusher, err := remote.NewPusher(opts...)
	if err != nil {
		return "", err
	}
	typed := target.Name
	if err := pushBlobs(ctx, pusher, ref.Context(), doc, o.Jobs); err != nil {
		return "", explainRegistry(err, typed, ref.Context().Registry)
	}
	if err := pushChildren(ctx, pusher, ref.Context(), doc); err != nil {
		return "", explainRegistry(fmt.Errorf("writing the manifest: %w", err), typed, ref.Context().Registry)
	}
	line := repositoryTyped(typed) + "@" + doc.digest.String()
	if o.Prove != nil {
		if err := proveRegistry(ctx, pusher, ref.Context().Digest(doc.digest.String()), line, doc, o); err != nil {
			return "", err
		}
	}
	if err := pusher.Put(ctx, ref, rawManifest{doc}); err != nil {
		return "", explainRegistry(fmt.Errorf("writing the manifest: %w", err), typed, ref.Context().Registry)
	}
	return line, nil
}

// proveRegistry pushes the root without a tag, reads the images back and has them
// proved.
func proveRegistry(ctx context.Context, pusher *remote.Pusher, ref name.Digest, line string, doc *document, o Options) error {
	if err := pusher.Put(ctx, ref, rawManifest{doc}); err != nil {
		return fmt.Errorf("writing the manifest: %w", err)
	}
	s, err := openRegistry(ctx, Ref{Transport: Registry, Name: line}, o)
	if err != nil {
		return fmt.Errorf("reading back: %w", err)
	}
	defer s.Close()
	return s.prove(ctx, o)
}

func pushChildren(ctx context.Context, pusher *remote.Pusher, repo name.Repository, doc *document) error {
	for _, c := range doc.children {
		if err := pushChildren(ctx, pusher, repo, c); err != nil {
			return err
		}
		if err := pusher.Put(ctx, repo.Digest(c.digest.String()), rawManifest{c}); err != nil {
			return err
		}
	}
	return nil
}

// pushBlobs uploads config and layers, each once. Foreign layers stay where
// their urls say.
func pushBlobs(ctx context.Context, pusher *remote.Pusher, repo name.Repository, doc *document, jobs int) error {
	if jobs <= 0 {
		jobs = defaultJobs
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(jobs)
	seen := map[v1.Hash]bool{}
	var below func(*document)
	below = func(d *document) {
		for _, l := range d.blobs {
			if seen[l.Digest] {
				continue
			}
			seen[l.Digest] = true
			g.Go(func() error {
				if err := pusher.Upload(ctx, repo, mountable(ctx, l, repo)); err != nil {
					return fmt.Errorf("writing blob %s: %w", l.Digest, err)
				}
				return nil
			})
		}
		for _, c := range d.children {
			below(c)
		}
	}
	below(doc)
	return g.Wait()
}

// mountable offers the registry to take a blob from another of its
// repositories.
func mountable(ctx context.Context, l Layer, repo name.Repository) v1.Layer {
	up := &upload{ctx: ctx, layer: l}
	if l.origin == nil || l.origin.repo.RegistryStr() != repo.RegistryStr() {
		return up
	}
	return &remote.MountableLayer{Layer: up, Reference: l.origin.repo.Digest(l.Digest.String())}
}

// upload is a Layer in the form that the registry client pushes.
type upload struct {
	ctx   context.Context
	layer Layer
}

// Digest implements v1.Layer.
func (u *upload) Digest() (v1.Hash, error) { return u.layer.Digest, nil }

// DiffID implements v1.Layer.
func (u *upload) DiffID() (v1.Hash, error) { return u.layer.DiffID, nil }

// Size implements v1.Layer.
func (u *upload) Size() (int64, error) { return u.layer.Size, nil }

// MediaType implements v1.Layer.
func (u *upload) MediaType() (types.MediaType, error) { return u.layer.MediaType, nil }

// Compressed implements v1.Layer: the blob as stored, verified at its end.
func (u *upload) Compressed() (io.ReadCloser, error) { return openLayer(u.ctx, u.layer) }

// Uncompressed implements v1.Layer; a push has no use for it.
func (u *upload) Uncompressed() (io.ReadCloser, error) {
	return nil, errors.New("[internal error] a push reads no inflated layer")
}

// rawManifest puts a manifest as the bytes it is.
type rawManifest struct{ doc *document }

// RawManifest implements remote.Taggable.
func (m rawManifest) RawManifest() ([]byte, error) { return m.doc.raw, nil }

// MediaType makes the client send the manifest's own type.
func (m rawManifest) MediaType() (types.MediaType, error) { return m.doc.mediaType, nil }
