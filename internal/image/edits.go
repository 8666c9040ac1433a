package image

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Edits are changes of an image's documents that are no consequence of its new
// layers. They leave every byte alone that they do not have to change: what is
// set to the value that it has, or removed where it is not, changes nothing.
type Edits struct {
	// Labels of the config are set or removed, in order.
	Labels []KeyValue
	// Annotations of the manifest are set or removed, in order. Docker's
	// manifests have none, see [Edits.Check].
	Annotations []KeyValue
	// Created, in RFC 3339, replaces the config's time of creation and that of
	// the new history entries; empty: the source's.
	Created string
}

// KeyValue sets a label or an annotation, or removes it.
type KeyValue struct {
	Key, Value string
	// Remove removes Key; Value has no meaning then.
	Remove bool
}

// Check finds, before any work, edits that cannot be made in an image whose
// manifest has the media type family: a *UsageError about one that makes no
// sense, a *HintError about annotations in Docker's family, which has none. To
// remove an annotation is no error there.
func (e Edits) Check(family types.MediaType) error {
	for _, kv := range e.Labels {
		if err := kv.check("label"); err != nil {
			return err
		}
	}
	for _, kv := range e.Annotations {
		if err := kv.check("annotation"); err != nil {
			return err
		}
		if !kv.Remove && family == types.DockerManifestSchema2 {
			return &HintError{
				Err:  errors.New("a Docker manifest has no annotations"),
				Hint: "write the manifest with --format oci",
			}
		}
	}
	if e.Created != "" {
		if _, err := parseRFC3339(e.Created); err != nil {
			return err
		}
	}
	return nil
}

// check refuses what JSON cannot hold as it is, and a key that names nothing.
func (kv KeyValue) check(what string) error {
	switch {
	case kv.Key == "":
		return &UsageError{Msg: fmt.Sprintf("%s without a name", what)}
	case !utf8.ValidString(kv.Key) || !kv.Remove && !utf8.ValidString(kv.Value):
		return &UsageError{Msg: fmt.Sprintf("%s %.100q is not UTF-8", what, kv.Key)}
	}
	return nil
}

// Change tells whether the edits give other bytes of the image's config or
// manifest. Whether the result's family has annotations is not asked here but
// by [Edits.Check]; without a manifest, any that is set is a change.
func (e Edits) Change(img *Image) (bool, error) {
	if err := e.Check(types.OCIManifestSchema1); err != nil {
		return false, err
	}
	c, err := parseConfig(img.Config)
	if err != nil {
		return false, fmt.Errorf("reading the config: %w", err)
	}
	if err := e.editConfig(c.doc); err != nil {
		return false, fmt.Errorf("editing the config: %w", err)
	}
	manifest := img.Manifest
	if manifest == nil {
		manifest = emptyManifest(types.OCIManifestSchema1)
	}
	doc, err := parseDocument(manifest)
	if err != nil {
		return false, fmt.Errorf("reading the manifest: %w", err)
	}
	if err := editMap(doc, "annotations", e.Annotations); err != nil {
		return false, fmt.Errorf("editing the manifest: %w", err)
	}
	return !bytes.Equal(c.doc.bytes(), img.Config) || !bytes.Equal(doc.bytes(), manifest), nil
}

// editConfig sets the time of creation, and the labels, which are a member of
// "config": https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md#properties
func (e Edits) editConfig(doc *object) error {
	if e.Created != "" && !doc.holds("created", e.Created) {
		doc.set("created", quoteJSON(e.Created))
	}
	if len(e.Labels) == 0 {
		return nil
	}
	inner, err := runConfig(doc)
	if err != nil {
		return err
	}
	before := len(inner.items)
	if err := editMap(inner, "Labels", e.Labels); err != nil {
		return fmt.Errorf(`"config": %w`, err)
	}
	if before > 0 || len(inner.items) > 0 {
		doc.set("config", inner.bytes())
	}
	return nil
}

// runConfig returns the member of a config that says how to run the image; empty
// if it is absent or null.
func runConfig(doc *object) (*object, error) {
	raw := doc.get("config")
	if raw == nil {
		return newObject(), nil
	}
	o, err := parseObject(raw, "Labels")
	if err != nil {
		return nil, fmt.Errorf(`"config": %w`, err)
	}
	return o, nil
}

// editMap makes the edits in a member that maps names to strings, which may be
// absent or null.
func editMap(doc *object, name string, edits []KeyValue) error {
	if len(edits) == 0 {
		return nil
	}
	m, err := doc.stringMap(name)
	if err != nil {
		return err
	}
	before := len(m.items)
	for _, kv := range lastEdits(edits) {
		switch {
		case kv.Remove:
			m.delete(kv.Key)
		case !m.holds(kv.Key, kv.Value):
			m.set(kv.Key, quoteJSON(kv.Value))
		}
	}
	doc.putMap(name, m, before)
	return nil
}

// lastEdits returns the last edit of each key, in the order of the first ones: a
// key that is set again keeps its place.
func lastEdits(edits []KeyValue) (last []KeyValue) {
	at := make(map[string]int, len(edits))
	for _, kv := range edits {
		if i, ok := at[kv.Key]; ok {
			last[i] = kv
			continue
		}
		at[kv.Key] = len(last)
		last = append(last, kv)
	}
	return last
}

func newObject() *object { return &object{container{open: '{', close: '}'}} }

// stringMap takes a member apart that maps names to strings; the result is empty
// if it is absent or null.
func (o *object) stringMap(name string) (*object, error) {
	raw := o.get(name)
	if raw == nil {
		return newObject(), nil
	}
	m, err := parseMap(raw)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	return m, nil
}

// putMap puts an edited map back that had so many members before. One that lost
// its last goes with it, so that undoing an edit also undoes that it made a
// map; one that had none stays what it was, absent, null or empty.
func (o *object) putMap(name string, m *object, before int) {
	switch {
	case len(m.items) > 0:
		o.set(name, m.bytes())
	case before > 0:
		o.delete(name)
	}
}

// holds tells whether a member is a string of this value, however it is escaped.
func (o *object) holds(name, value string) bool {
	raw := o.get(name)
	if raw == nil {
		return false
	}
	s, err := decodeText(raw)
	return err == nil && s == value
}

// ParseTime reads a time in RFC 3339 or in whole seconds since 1970 and returns
// it in RFC 3339, in UTC, with its fraction down to nanoseconds if it has one. A
// year outside of 0 to 9999 and anything else is a *UsageError.
func ParseTime(s string) (string, error) {
	if isInteger(s) {
		return ParseEpoch(s)
	}
	t, err := parseRFC3339(s)
	if err != nil {
		return "", err
	}
	return t.Format(time.RFC3339Nano), nil
}

// ParseEpoch is ParseTime for whole seconds since 1970 alone, the only form of
// the variable SOURCE_DATE_EPOCH:
// https://reproducible-builds.org/specs/source-date-epoch/
func ParseEpoch(s string) (string, error) {
	if !isInteger(s) {
		return "", &UsageError{Msg: fmt.Sprintf("%.100q is not a number of seconds", s), Hint: "write whole seconds since 1970, as date +%s prints them"}
	}
	seconds, err := strconv.ParseInt(s, 10, 64)
	// Far beyond year 9999 time.Unix overflows.
	if err != nil || seconds < -1e12 || seconds > 1e12 {
		return "", errYear(s)
	}
	t := time.Unix(seconds, 0).UTC()
	if !inRange(t) {
		return "", errYear(s)
	}
	return t.Format(time.RFC3339), nil
}

// isInteger tells whether s is digits with or without a minus before them.
func isInteger(s string) bool {
	if s != "" && s[0] == '-' {
		s = s[1:]
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// rfc3339 is the form of a time; [time.Parse] also takes a comma, one digit of an
// hour and any hour of a zone.
var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// parseRFC3339 reads a time in the form that all readers of configs take.
func parseRFC3339(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || !rfc3339.MatchString(s) {
		return t, &UsageError{
			Msg:  fmt.Sprintf("%.100q is not a time", s),
			Hint: "write RFC 3339, as 2006-01-02T15:04:05Z, or whole seconds since 1970",
		}
	}
	if t = t.UTC(); !inRange(t) {
		return t, errYear(s)
	}
	return t, nil
}

// inRange tells whether RFC 3339 has the year, which has four digits there.
func inRange(t time.Time) bool { return t.Year() >= 0 && t.Year() <= 9999 }

func errYear(s string) error {
	return &UsageError{Msg: fmt.Sprintf("time %.100q is outside of the years 0 to 9999", s)}
}

// HistoryEntry is what one entry of a config's history says.
// https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md#properties
type HistoryEntry struct {
	CreatedBy, Comment string
	// Empty tells that the entry stands for no layer.
	Empty bool
}

// Labels returns the labels of the config; an empty map if it has none. A label
// that is no string or that is there twice is an error.
func (img *Image) Labels() (map[string]string, error) {
	c, err := parseConfig(img.Config)
	if err != nil {
		return nil, fmt.Errorf("reading the config: %w", err)
	}
	inner, err := runConfig(c.doc)
	if err != nil {
		return nil, fmt.Errorf("reading the config: %w", err)
	}
	return stringsOf(inner, "Labels", "config")
}

// Annotations returns the annotations of the manifest; an empty map if it has
// none or there is no manifest. An annotation that is no string or that is there
// twice is an error.
func (img *Image) Annotations() (map[string]string, error) {
	if img.Manifest == nil {
		return map[string]string{}, nil
	}
	doc, err := parseDocument(img.Manifest)
	if err != nil {
		return nil, fmt.Errorf("reading the manifest: %w", err)
	}
	return stringsOf(doc, "annotations", "manifest")
}

// stringsOf returns a member of a document; never nil without an error.
func stringsOf(doc *object, name, document string) (map[string]string, error) {
	m, err := doc.annotations(name)
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the %s: %w", document, err)
	case m == nil:
		return map[string]string{}, nil
	}
	return m, nil
}

// History returns the history of the config, oldest first; nil if it has none.
func (img *Image) History() ([]HistoryEntry, error) {
	c, err := parseConfig(img.Config)
	if err != nil {
		return nil, fmt.Errorf("reading the config: %w", err)
	}
	var out []HistoryEntry
	for i, e := range c.history {
		o, err := parseObject(e.raw, historyFields...)
		if err != nil {
			return nil, fmt.Errorf("reading the config: history entry %d: %w", i+1, err)
		}
		createdBy, err1 := o.text("created_by")
		comment, err2 := o.text("comment")
		if err := cmp.Or(err1, err2); err != nil {
			return nil, fmt.Errorf("reading the config: history entry %d: %w", i+1, err)
		}
		out = append(out, HistoryEntry{CreatedBy: createdBy, Comment: comment, Empty: e.empty})
	}
	return out, nil
}
