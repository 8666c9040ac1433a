package image

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// download is a blob as a stream. When its connection breaks, ends early or
// stalls, it goes on where it was, as often as Options.Retries says since the
// last byte. Its content is unverified.
type download struct {
	ctx    context.Context
	c      *client
	digest v1.Hash
	size   int64 // below 0 while it is unknown
	offset int64
	body   io.ReadCloser
	// pending is how the body ended, to be told after its last bytes.
	pending error
	pace    *pace
	// whole tells that the registry cannot begin in the middle.
	whole bool
}

// getBlob opens a blob; a size below 0 is unknown.
func (c *client) getBlob(ctx context.Context, h v1.Hash, size int64) (io.ReadCloser, error) {
	d := &download{ctx: ctx, c: c, digest: h, size: size, pace: c.o.newPace()}
	if err := d.pace.retry(ctx, d.open); err != nil {
		return nil, err
	}
	return d, nil
}

// Read implements io.Reader.
func (d *download) Read(p []byte) (int, error) {
	for {
		n, err := 0, d.pending
		if err == nil {
			n, err = d.body.Read(p)
		}
		if n > 0 {
			d.offset += int64(n)
			if d.size >= 0 && d.offset > d.size {
				return 0, fmt.Errorf("blob %s is longer than its %d bytes", d.digest, d.size)
			}
			d.pending = err
			d.pace.progress()
			return n, nil
		}
		if err == nil || err == io.EOF && (d.size < 0 || d.offset >= d.size) {
			return 0, err
		}
		if d.ctx.Err() != nil {
			return 0, context.Cause(d.ctx)
		}
		if err == io.EOF {
			err = fmt.Errorf("blob %s ends after %d of its %d bytes", d.digest, d.offset, d.size)
		}
		if err := d.resume(redact(err, d.c.hiding())); err != nil {
			return 0, err
		}
	}
}

// Close implements io.Closer.
func (d *download) Close() error { return d.body.Close() }

// resume opens the blob again after it broke.
func (d *download) resume(broke error) error {
	d.body.Close()
	return d.pace.retry(d.ctx, func() error {
		if err := broke; err != nil {
			broke = nil
			return passingError{err}
		}
		return d.open()
	})
}

// open asks for the blob from the offset on.
func (d *download) open() error {
	// Bytes count as they are stored: no transport may inflate them.
	header := map[string]string{"Accept-Encoding": "identity"}
	accept := []int{http.StatusOK}
	if d.offset > 0 && !d.whole {
		header["Range"] = fmt.Sprintf("bytes=%d-", d.offset)
		accept = append(accept, http.StatusPartialContent)
	}
	resp, err := d.c.send(d.ctx, request{method: http.MethodGet, url: d.c.url("blobs/" + d.digest.String()), header: header, accept: accept})
	if statusOf(err) == http.StatusRequestedRangeNotSatisfiable {
		d.whole = true
		return passingError{err}
	}
	if err != nil {
		return err
	}
	if err := d.align(resp); err != nil {
		resp.Body.Close()
		return err
	}
	d.body, d.pending = resp.Body, nil
	return nil
}

// align brings an answer's body to the offset.
func (d *download) align(resp *http.Response) error {
	if resp.StatusCode == http.StatusPartialContent {
		start, total, ok := parseContentRange(resp.Header.Get("Content-Range"))
		if !ok || start != d.offset || total >= 0 && d.size >= 0 && total != d.size {
			d.whole = true
			return passingError{fmt.Errorf("blob %s: the registry sent %q where the bytes from %d on were asked for", d.digest, cut(resp.Header.Get("Content-Range")), d.offset)}
		}
		return nil
	}
	switch {
	case d.size < 0:
		d.size = resp.ContentLength
	case resp.ContentLength >= 0 && resp.ContentLength != d.size:
		return final(fmt.Errorf("blob %s has %d bytes in the registry where %d were expected", d.digest, resp.ContentLength, d.size))
	}
	if _, err := io.CopyN(io.Discard, resp.Body, d.offset); err != nil {
		if err == io.EOF {
			err = fmt.Errorf("blob %s ends before its byte %d", d.digest, d.offset)
		}
		return passingError{redact(err, d.c.hiding())}
	}
	return nil
}

// parseContentRange reads "bytes FIRST-LAST/TOTAL" (RFC 9110, section 14.4); a
// total of "*" is -1.
func parseContentRange(s string) (first, total int64, ok bool) {
	rest, found := strings.CutPrefix(s, "bytes ")
	span, all, slash := strings.Cut(rest, "/")
	from, to, dash := strings.Cut(span, "-")
	first, err1 := strconv.ParseInt(from, 10, 64)
	last, err2 := strconv.ParseInt(to, 10, 64)
	total, err3 := int64(-1), error(nil)
	if all != "*" {
		total, err3 = strconv.ParseInt(all, 10, 64)
	}
	ok = found && slash && dash && err1 == nil && err2 == nil && err3 == nil && 0 <= first && first <= last && (total < 0 || last < total)
	return first, total, ok
}
