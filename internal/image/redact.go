package image

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Bounds on what a registry says about an error: in bytes, what is read of its
// answer and what is repeated to the user.
const (
	maxAnswer = 64 << 10
	maxQuoted = 300
)

// hidden stands where a secret was.
const hidden = "***"

// redacted is an error in words without secrets; what it wraps may have some,
// and is there for errors.As and errors.Is alone.
type redacted struct {
	text string
	err  error
	// after is how long the registry asks to wait, 0 if it does not.
	after time.Duration
}

func (e *redacted) Error() string { return e.text }

// Unwrap returns the error in its own words.
func (e *redacted) Unwrap() error { return e.err }

// answerError is the error of an answer that has another status than asked
// for. It reads the answer's body.
func answerError(resp *http.Response, secrets []string, now time.Time) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	status := &transport.Error{StatusCode: resp.StatusCode, Request: resp.Request}
	var said struct {
		Errors []transport.Diagnostic `json:"errors"`
	}
	switch {
	case json.Unmarshal(body, &said) == nil && len(said.Errors) > 0:
		status.Errors = said.Errors
		body = nil
	case err != nil:
		body = nil
	}
	e := &redacted{text: statusText(status, body, secrets), err: status}
	e.after = retryAfter(resp.Header.Get("Retry-After"), now)
	return e
}

// statusText words a status: the request without its query, the status, and
// what the registry said.
func statusText(e *transport.Error, body []byte, secrets []string) string {
	text := fmt.Sprintf("status %d", e.StatusCode)
	if name := http.StatusText(e.StatusCode); name != "" {
		text = fmt.Sprintf("%d %s", e.StatusCode, name)
	}
	if e.Request != nil && e.Request.URL != nil {
		text = fmt.Sprintf("%s %s: %s", e.Request.Method, publicURL(e.Request.URL), text)
		secrets = append(secrets, secretsIn(e.Request)...)
	}
	said := strings.TrimSpace(string(body))
	for i, d := range e.Errors {
		if i > 0 {
			said += "; "
		}
		said += string(d.Code) + ": " + d.Message
	}
	if said = cut(hide(said, secrets)); said != "" {
		text += fmt.Sprintf(": %q", said)
	}
	return text
}

// publicURL is a URL without user, password, query and fragment.
func publicURL(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

// redact takes the secrets out of an error's words, whatever it wraps.
func redact(err error, secrets []string) error {
	var done *redacted
	if err == nil || errors.As(err, &done) {
		return err
	}
	var status *transport.Error
	if errors.As(err, &status) {
		return &redacted{text: statusText(status, nil, secrets), err: err}
	}
	// What follows on a further line is the body of an answer.
	text, _, _ := strings.Cut(err.Error(), "\n")
	return &redacted{text: hide(printable(withoutRealm(text)), secrets), err: err}
}

// urlLike is what a message may have of a URL: all of a quoted text, or what
// goes on to the next space.
var urlLike = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|[^\s"]*//[^\s"]*`)

// hide takes user names, passwords and queries out of URLs, and the secrets
// themselves.
func hide(text string, secrets []string) string {
	text = urlLike.ReplaceAllStringFunc(text, func(s string) string {
		quote := ""
		if strings.HasPrefix(s, `"`) {
			quote = `"`
		}
		if i := strings.IndexAny(s, "?#"); i >= 0 {
			s = s[:i] + quote
		}
		if i := strings.Index(s, "//"); i >= 0 {
			if at := strings.LastIndexByte(s, '@'); at > i {
				s = s[:i+2] + s[at+1:]
			}
		}
		return s
	})
	for _, secret := range secrets {
		text = strings.ReplaceAll(text, secret, hidden)
	}
	return text
}

// realmErrors begin words about a WWW-Authenticate header that go on with all
// of it, which may be no URL by which to find the secrets.
var realmErrors = []string{"missing realm", "parsing realm", "malformed www-authenticate"}

func withoutRealm(text string) string {
	for _, begin := range realmErrors {
		if i := strings.Index(text, begin); i >= 0 {
			return text[:i+len(begin)]
		}
	}
	return text
}

// secretsIn are the secrets of a request's Authorization header.
func secretsIn(req *http.Request) []string {
	_, value, ok := strings.Cut(req.Header.Get("Authorization"), " ")
	if !ok {
		return nil
	}
	secrets := []string{value}
	if plain, err := base64.StdEncoding.DecodeString(value); err == nil {
		_, password, _ := strings.Cut(string(plain), ":")
		secrets = append(secrets, password)
	}
	return withoutShort(secrets)
}

// secretsOf are the secrets among credentials.
func secretsOf(a *authn.AuthConfig) []string {
	secrets := []string{a.Password, a.Auth, a.IdentityToken, a.RegistryToken}
	if a.Username != "" {
		secrets = append(secrets, base64.StdEncoding.EncodeToString([]byte(a.Username+":"+a.Password)))
	}
	for _, s := range secrets[:len(secrets):len(secrets)] {
		secrets = append(secrets, url.QueryEscape(s))
	}
	return withoutShort(secrets)
}

// withoutShort leaves out what is found in any text.
func withoutShort(secrets []string) []string {
	var long []string
	for _, s := range secrets {
		if len(s) > 2 {
			long = append(long, s)
		}
	}
	return long
}

// printable escapes what a terminal would act on.
func printable(text string) string {
	if strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return text
	}
	quoted := strconv.Quote(text)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// cut shortens a text that a message repeats.
func cut(text string) string {
	if len(text) <= maxQuoted {
		return text
	}
	return strings.ToValidUTF8(text[:maxQuoted], "") + "…"
}
