package image

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// How failed requests are repeated.
const (
	defaultRetries = 3
	firstDelay     = time.Second
	delayFactor    = 3
	delayJitter    = 0.1
	maxDelay       = time.Minute
	// maxRetryAfter is the longest wait that a registry may ask for.
	maxRetryAfter = 2 * time.Minute
	// defaultStall is Options.StallTimeout where that is zero.
	defaultStall = time.Minute
)

// retryStatuses are answers that may be others a moment later.
var retryStatuses = []int{
	http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusInternalServerError,
	http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
}

// pacing is how time passes for the registry client. The zero value is the
// clock; tests have their own.
type pacing struct {
	// wait is given every delay before a request is repeated and returns the
	// one to keep.
	wait func(time.Duration) time.Duration
	// alarm returns a timer that calls a function, as time.AfterFunc does.
	alarm func(time.Duration, func()) alarm
}

// alarm is the part of *time.Timer that is used.
type alarm interface {
	Reset(time.Duration) bool
	Stop() bool
}

func (p pacing) newAlarm(d time.Duration, f func()) alarm {
	if p.alarm != nil {
		return p.alarm(d, f)
	}
	return time.AfterFunc(d, f)
}

// stallTimeout is Options.StallTimeout or its default.
func (o Options) stallTimeout() time.Duration {
	if o.StallTimeout > 0 {
		return o.StallTimeout
	}
	return defaultStall
}

// pace is the back-off of one request or transfer: so many attempts since the
// last progress. It implements backoff.BackOff.
type pace struct {
	exponential   *backoff.ExponentialBackOff
	retries, left int
	// after is the least that the next delay has to be.
	after time.Duration
	wait  func(time.Duration) time.Duration
	told  func(error, time.Duration)
}

func (o Options) newPace() *pace {
	retries := o.Retries
	if retries == 0 {
		retries = defaultRetries
	}
	p := &pace{retries: max(retries, 0), wait: o.pacing.wait, told: o.Waiting}
	p.exponential = &backoff.ExponentialBackOff{
		InitialInterval: firstDelay, Multiplier: delayFactor, RandomizationFactor: delayJitter, MaxInterval: maxDelay,
	}
	p.progress()
	return p
}

// progress makes all attempts available again.
func (p *pace) progress() {
	p.left = p.retries
	p.exponential.Reset()
}

// NextBackOff implements backoff.BackOff.
func (p *pace) NextBackOff() time.Duration {
	if p.left == 0 {
		return backoff.Stop
	}
	p.left--
	d := max(p.exponential.NextBackOff(), p.after)
	if p.wait != nil {
		return p.wait(d)
	}
	return d
}

// Reset implements backoff.BackOff: a transfer that is resumed has only the
// attempts that are left.
func (p *pace) Reset() {}

// retry calls op until it succeeds, fails for good or no attempt is left, or
// ctx ends.
func (p *pace) retry(ctx context.Context, op func() error) error {
	tell := func(err error, d time.Duration) {
		if p.told != nil {
			p.told(err, d)
		}
	}
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := op()
		switch {
		case err == nil:
			return struct{}{}, nil
		case ctx.Err() != nil:
			return struct{}{}, backoff.Permanent(context.Cause(ctx))
		case !retryable(err):
			return struct{}{}, backoff.Permanent(err)
		}
		p.after = 0
		var answer *redacted
		if errors.As(err, &answer) {
			p.after = answer.after
		}
		if p.after > maxRetryAfter {
			err = fmt.Errorf("%w; the registry asks to wait for %s, and more than %s is too long", err, p.after.Round(time.Second), maxRetryAfter)
			return struct{}{}, backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(p), backoff.WithMaxElapsedTime(0), backoff.WithNotify(tell))
	return err
}

// retryAfter reads a Retry-After header, which has seconds or a date (RFC
// 9110, section 10.2.3); 0 where it has neither.
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(header, 10, 63); err == nil {
		return time.Duration(min(seconds, uint64(24*time.Hour/time.Second))) * time.Second
	}
	if date, err := http.ParseTime(header); err == nil {
		return max(date.Sub(now), 0)
	}
	return 0
}

// finalError is an error that no repetition mends.
type finalError struct{ error }

// Unwrap returns the error itself.
func (e finalError) Unwrap() error { return e.error }

func final(err error) error {
	if err == nil {
		return nil
	}
	return finalError{err}
}

// passingError is an answer that another try can mend although its status does
// not say so.
type passingError struct{ error }

// Unwrap returns the error itself.
func (e passingError) Unwrap() error { return e.error }

// contactError is an error before the registry gave its first answer.
type contactError struct{ error }

// Unwrap returns the error itself.
func (e contactError) Unwrap() error { return e.error }

// retryable tells whether the same request may succeed a moment later. An
// answer is judged by its status; other errors are those of connections.
func retryable(err error) bool {
	if is[finalError](err) {
		return false
	}
	if is[passingError](err) {
		return true
	}
	if status := statusOf(err); status != 0 {
		return slices.Contains(retryStatuses, status)
	}
	for _, broken := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, broken) {
			return true
		}
	}
	var dns *net.DNSError
	switch {
	case is[*tls.CertificateVerificationError](err), is[x509.UnknownAuthorityError](err), is[x509.HostnameError](err):
		return false
	case strings.Contains(err.Error(), plainHTTP), strings.Contains(err.Error(), "unsupported protocol scheme"):
		return false
	case strings.Contains(err.Error(), "www-authenticate"), strings.Contains(err.Error(), "no token in bearer response"):
		return false
	case is[contactError](err):
		// The host was never seen: it is more likely wrong than down.
		return !errors.Is(err, syscall.ECONNREFUSED) && !errors.As(err, &dns)
	}
	return true
}

// plainHTTP is how net/http begins the error about a server without TLS.
const plainHTTP = "server gave HTTP response to HTTPS client"

// is tells whether an error of a type is among those that err wraps.
func is[T error](err error) bool {
	var e T
	return errors.As(err, &e)
}

// statusOf is the HTTP status of an answer that became an error, or 0.
func statusOf(err error) int {
	var status *transport.Error
	if errors.As(err, &status) {
		return status.StatusCode
	}
	return 0
}

// hasCode tells whether a registry's answer names one of some error codes.
func hasCode(err error, codes ...transport.ErrorCode) bool {
	var status *transport.Error
	return errors.As(err, &status) && slices.ContainsFunc(status.Errors, func(d transport.Diagnostic) bool {
		return slices.Contains(codes, d.Code)
	})
}
