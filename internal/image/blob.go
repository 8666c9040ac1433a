package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// copyBuffer is the size of the buffers that blobs are copied with, in bytes.
const copyBuffer = 256 << 10

// blobStore holds blobs by digest. What it returns is unverified.
type blobStore interface {
	// blob opens a config or layer by digest; a size below zero is unknown.
	blob(ctx context.Context, d descriptor) (io.ReadCloser, error)
	// manifest opens a manifest or index by digest and claimed media type.
	manifest(ctx context.Context, d descriptor) (io.ReadCloser, error)
	// has tells whether a manifest or index is there. A store that cannot
	// tell without asking for it says yes.
	has(h v1.Hash) bool
	// origins are where other targets can mount the blobs from, nil if nowhere.
	origins() []registryBlob
}

// readDocument reads a whole document of at most limit bytes and verifies its
// digest and size. A size below zero is unknown.
func readDocument(r io.ReadCloser, want v1.Hash, size, limit int64) ([]byte, error) {
	defer r.Close()
	if size > limit {
		return nil, fmt.Errorf("%s: %d bytes are more than %d", want, size, limit)
	}
	if size < 0 {
		size = -1
	}
	v, err := newVerifier(r, want, size)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(v, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: more than %d bytes", want, limit)
	}
	return data, nil
}

// missingBlob words the error about a blob that a local source should hold.
func missingBlob(h v1.Hash, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading blob %s: %w", h, err)
	}
	return &HintError{
		Err:  fmt.Errorf("blob %s is missing: %w", h, fs.ErrNotExist),
		Hint: "the image was stored without all of its content: pull it for this platform and save it again",
	}
}

// verifier is a reader that fails, at the latest instead of io.EOF, unless
// what was read has the digest and size that were claimed.
type verifier struct {
	r       io.Reader
	h       hash.Hash
	want    v1.Hash
	size, n int64
}

// newVerifier verifies what is read from r. A size below zero is unknown.
func newVerifier(r io.Reader, want v1.Hash, size int64) (*verifier, error) {
	h, err := v1.Hasher(want.Algorithm)
	if err != nil {
		return nil, fmt.Errorf("digest %q: %w", want, err)
	}
	return &verifier{r: r, h: h, want: want, size: size}, nil
}

// Read implements io.Reader.
func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.h.Write(p[:n])
	v.n += int64(n)
	if v.size >= 0 && v.n > v.size {
		return 0, fmt.Errorf("blob %s is longer than its %d bytes", v.want, v.size)
	}
	if err == io.EOF {
		if v.size >= 0 && v.n < v.size {
			return n, fmt.Errorf("blob %s ends after %d of its %d bytes", v.want, v.n, v.size)
		}
		if got := hex.EncodeToString(v.h.Sum(nil)); got != v.want.Hex {
			return n, fmt.Errorf("blob %s has other content: its digest is %s:%s", v.want, v.want.Algorithm, got)
		}
	}
	return n, err
}

// openLayer opens a layer as a stream that ends in an error unless it has the
// layer's digest and size, and that stops when ctx ends.
func openLayer(ctx context.Context, l Layer) (io.ReadCloser, error) {
	if l.Open == nil {
		return nil, fmt.Errorf("[internal error] layer %s cannot be opened", l.Digest)
	}
	rc, err := l.Open(ctx)
	if err != nil {
		return nil, err
	}
	v, err := newVerifier(&contextReader{ctx, rc}, l.Digest, l.Size)
	if err != nil {
		rc.Close()
		return nil, err
	}
	return readCloser{v, rc}, nil
}

// copyLayer copies a layer to w and verifies it.
func copyLayer(ctx context.Context, w io.Writer, l Layer) error {
	rc, err := openLayer(ctx, l)
	if err != nil {
		return err
	}
	defer rc.Close()
	return copyTo(w, rc)
}

func copyTo(w io.Writer, r io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, copyBuffer))
	return err
}

// contextReader fails as soon as its context has ended.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (c *contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// readCloser reads from one and closes another.
type readCloser struct {
	io.Reader
	io.Closer
}

// digestOf returns the SHA-256 digest of a document.
func digestOf(data []byte) v1.Hash {
	sum := sha256.Sum256(data)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}
