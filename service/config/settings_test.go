package config

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// keys are the settings that the program reads: "table.name".
func keys() (tables, settings []string) {
	f := reflect.TypeFor[file]()
	for i := range f.NumField() {
		table := f.Field(i)
		tables = append(tables, table.Tag.Get("toml"))
		inner := table.Type
		if inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		for j := range inner.NumField() {
			settings = append(settings, table.Tag.Get("toml")+"."+inner.Field(j).Tag.Get("toml"))
		}
	}
	return tables, settings
}

// What is documented is what is read, in the same order, and nothing else.
func TestSettingsAreThoseOfTheFile(t *testing.T) {
	tables, settings := keys()
	var described []string
	for _, s := range Settings() {
		described = append(described, s.Table+"."+s.Name)
		assert.NotEmpty(t, s.Value)
		assert.True(t, strings.HasSuffix(s.Text, "."), "%s.%s", s.Table, s.Name)
	}
	slices.Sort(settings)
	slices.Sort(described)
	assert.Equal(t, settings, described)
	var names []string
	for _, table := range Tables() {
		names = append(names, table.Name)
		assert.Equal(t, reflect.TypeFor[file]().Field(len(names)-1).Type.Kind() == reflect.Slice, table.Many)
	}
	assert.Equal(t, tables, names)
}

// A file that writes out every default changes nothing.
func TestDefaultsAreThoseThatAreDocumented(t *testing.T) {
	var text strings.Builder
	table := ""
	for _, s := range Settings() {
		if s.Table == "filesystem" || s.Default == "" {
			continue
		}
		if s.Table != table {
			table = s.Table
			text.WriteString("[" + table + "]\n")
		}
		text.WriteString(s.Name + " = " + s.Default + "\n")
	}
	c := Default()
	require.NoError(t, c.add("x", []byte(text.String())))
	c.Policy.Windows = nil // an empty list and none are the same
	assert.Equal(t, Default(), c)
}

// The kinds of values name examples: all of them are good.
func TestExamplesOfValues(t *testing.T) {
	for _, example := range []string{
		`period = "36h"`, `period = "7d"`, `period = "2w"`, `period = "never"`,
		`windows = ["01:00-05:00", "Sat,Sun 22:00-06:00", "Mon..Fri 00:00-24:00"]`,
	} {
		require.NoError(t, Default().add("x", []byte("[schedule]\n"+example+"\n")), example)
		for part := range strings.SplitSeq(strings.Trim(example[strings.Index(example, "=")+2:], "[]"), ", ") {
			assert.Contains(t, aTime+windows, part)
		}
	}
}

// docs/operations.md shows every table, and its example is one.
func TestOperationsShowsTheSettings(t *testing.T) {
	doc, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	_, text, ok := strings.Cut(string(doc), "\n## Configuration\n")
	require.True(t, ok)
	text, _, _ = strings.Cut(text, "\n## ")
	var example strings.Builder
	for line := range strings.Lines(text) {
		if code, ok := strings.CutPrefix(line, "    "); ok {
			example.WriteString(code)
		}
	}
	require.NoError(t, Default().add("docs/operations.md", []byte(example.String())))
	var shown map[string]any
	require.NoError(t, toml.Unmarshal([]byte(example.String()), &shown))
	for _, table := range Tables() {
		assert.Contains(t, shown, table.Name)
	}
}
