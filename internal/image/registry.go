package image

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
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
	client *client
	typed  string // the reference as the user wrote it
	// root is the document that the reference was resolved to.
	root storedManifest
}

// openRegistry resolves the reference to a digest; every later read goes by
// digest.
func openRegistry(ctx context.Context, ref Ref, o Options) (*Source, error) {
	r, err := o.registryReference(ref)
	if err != nil {
		return nil, err
	}
	c, err := newClient(r.Context(), transport.PullScope, o)
	if err != nil {
		return nil, err
	}
	return c.source(ctx, ref, r)
}

// source opens what a reference to the client's repository names.
func (c *client) source(ctx context.Context, ref Ref, r name.Reference) (*Source, error) {
	store := &registryStore{client: c, typed: ref.Name}
	m, err := c.getManifest(ctx, r.Identifier(), "")
	if err != nil {
		return nil, store.explain(fmt.Errorf("reading %s: %w", ref, err))
	}
	store.root = m
	root := descriptor{MediaType: m.mediaType, Digest: m.digest, Size: int64(len(m.raw))}
	w := walk{store: store, ref: repositoryTyped(ref.Name), roots: []descriptor{root}}
	if _, tagged := r.(name.Tag); tagged {
		w.names = []string{w.ref + ":" + r.Identifier()}
	}
	return &Source{tree: w.tree, registry: store}, nil
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

// blob implements blobStore.
func (s *registryStore) blob(ctx context.Context, d descriptor) (io.ReadCloser, error) {
	rc, err := s.client.getBlob(ctx, d.Digest, d.Size)
	if err != nil {
		return nil, s.explain(err)
	}
	return rc, nil
}

// manifest implements blobStore.
func (s *registryStore) manifest(ctx context.Context, d descriptor) (io.ReadCloser, error) {
	raw := s.root.raw
	if d.Digest != s.root.digest {
		m, err := s.client.getManifest(ctx, d.Digest.String(), d.MediaType)
		if err != nil {
			return nil, s.explain(err)
		}
		raw = m.raw
	}
	return io.NopCloser(bytes.NewReader(raw)), nil
}

// has implements blobStore.
func (s *registryStore) has(v1.Hash) bool { return true }

// origins implements blobStore.
func (s *registryStore) origins() []registryBlob { return []registryBlob{{repo: s.client.repo}} }

// explain adds the remedy to errors that have one.
func (s *registryStore) explain(err error) error {
	return explainRegistry(err, s.typed, s.client.repo.Registry)
}

func explainRegistry(err error, typed string, registry name.Registry) error {
	var status *transport.Error
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var unknown *net.DNSError
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
			hint = fmt.Sprintf("this name means Docker Hub; an image of the local engine is docker-daemon:%s", typed)
		case denied:
			hint = fmt.Sprintf("log in with docker login %s", host)
		}
	case errors.As(err, &hostname):
		hint = fmt.Sprintf("the registry's certificate is for another name: use that, or trust any with --insecure=%s", host)
	case errors.As(err, &authority):
		hint = fmt.Sprintf("give the registry's certificate with --ca-file, or trust any with --insecure=%s", host)
	case errors.As(err, &unknown) && host == name.DefaultRegistry && !strings.Contains(typed, "docker.io/"):
		hint = fmt.Sprintf("this name means Docker Hub; an image of the local engine is docker-daemon:%s", typed)
	case errors.As(err, &unknown) || errors.Is(err, syscall.ECONNREFUSED):
		hint = fmt.Sprintf("is the registry running, and is %s its host and port?", host)
	case strings.Contains(err.Error(), "private or link-local address"):
		hint = "the registry sends to a token server at an address of a private network: give both a host name"
	case strings.Contains(err.Error(), plainHTTP):
		hint = fmt.Sprintf("for a registry without TLS: --insecure=%s", host)
	}
	if hint == "" {
		return err
	}
	return &HintError{Err: err, Hint: hint}
}

// writeRegistry pushes all blobs, then the documents from below, and the root under
// its tag after all of them, so that no tag ever names an incomplete image.
func writeRegistry(ctx context.Context, target Ref, doc *document, images []*Image, o Options) (string, error) {
	ref, err := o.registryReference(target)
	if err != nil {
		return "", err
	}
	if d, ok := ref.(name.Digest); ok && d.DigestStr() != doc.digest.String() {
		return "", &UsageError{Msg: fmt.Sprintf("%s names a digest, and the image to write has %s", target, doc.digest), Hint: "name a tag"}
	}
	c, err := newClient(ref.Context(), transport.PushScope, o, mountSources(doc.allBlobs(), ref.Context())...)
	if err != nil {
		return "", err
	}
	explain := func(err error) error { return explainRegistry(err, target.Name, ref.Context().Registry) }
	if err := pushDocument(ctx, c, doc, o.Jobs); err != nil {
		return "", explain(err)
	}
	line := Line(target, doc.digest)
	if o.Prove != nil {
		if err := proveRegistry(ctx, c, doc, images, line); err != nil {
			return "", explain(err)
		}
	}
	if tag, ok := ref.(name.Tag); ok && o.Expect != (v1.Hash{}) {
		if err := c.expect(ctx, tag.TagStr(), o.Expect); err != nil {
			return "", explain(err)
		}
	}
	if err := c.putManifest(ctx, ref.Identifier(), doc); err != nil {
		return "", explain(fmt.Errorf("writing the manifest: %w", err))
	}
	return line, nil
}

// proveRegistry puts the document without a tag, reads the image back and has it
// proved.
func proveRegistry(ctx context.Context, c *client, doc *document, images []*Image, line string) error {
	digest := c.repo.Digest(doc.digest.String())
	if err := c.putManifest(ctx, digest.DigestStr(), doc); err != nil {
		return fmt.Errorf("writing the manifest: %w", err)
	}
	s, err := c.source(ctx, Ref{Transport: Registry, Name: line}, digest)
	if err != nil {
		return fmt.Errorf("reading back: %w", err)
	}
	defer s.Close()
	return s.prove(ctx, images, c.o)
}

// CheckRegistry finds, before any work, that the registry of a target does not answer
// or does not let us in. A target that is no registry passes.
func CheckRegistry(ctx context.Context, target Ref, o Options) error {
	if target.Transport != Registry {
		return nil
	}
	return withRegistry(ctx, target, o, func(*client) error { return nil })
}

// withRegistry logs in to the registry of a target to write there, and does so.
func withRegistry(ctx context.Context, target Ref, o Options, do func(*client) error) error {
	ref, err := o.registryReference(target)
	if err != nil {
		return err
	}
	c, err := newClient(ref.Context(), transport.PushScope, o)
	if err == nil {
		err = c.connect(ctx)
	}
	if err == nil {
		err = do(c)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", target, explainRegistry(err, target.Name, ref.Context().Registry))
	}
	return nil
}

// Upload puts layers into the repository of a target ahead of Write, which then
// finds them there: while a further platform is still being made, say. Foreign
// layers are left out, and so are those that have no digest yet. A target that
// is no registry takes nothing ahead.
//
// The layers are read and verified as by Write. After an error, some of them
// may be there; without a manifest they have no name.
func Upload(ctx context.Context, target Ref, layers []Layer, o Options) error {
	if target.Transport != Registry {
		return nil
	}
	ref, err := o.registryReference(target)
	if err != nil {
		return err
	}
	doc := &document{}
	for _, l := range layers {
		if !l.Foreign && l.Digest != (v1.Hash{}) {
			doc.blobs = append(doc.blobs, l)
		}
	}
	blobs := doc.allBlobs()
	if len(blobs) == 0 {
		return nil
	}
	c, err := newClient(ref.Context(), transport.PushScope, o, mountSources(blobs, ref.Context())...)
	if err == nil {
		err = pushBlobs(ctx, c, blobs, o.Jobs)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", target, explainRegistry(err, target.Name, ref.Context().Registry))
	}
	return nil
}
