package interop_test

import (
	"os"
	"strings"
	"testing"
)

// What docs/import.md shows is what was compiled and run.
func TestDocs(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/import.md")
	check(t, err)
	for language, files := range map[string][]string{
		"go": {"../../tokencache/example_import_test.go", "aspnet_test.go"},
		"js": {"testdata/node/adopt.mjs"},
	} {
		var sources strings.Builder
		for _, name := range files {
			b, err := os.ReadFile(name)
			check(t, err)
			sources.Write(b)
		}
		blocks := strings.Split(string(page), "```"+language+"\n")[1:]
		if len(blocks) == 0 {
			t.Errorf("the page shows no %s", language)
		}
		for _, block := range blocks {
			code, _, _ := strings.Cut(block, "```")
			if !strings.Contains(sources.String(), code) {
				t.Errorf("the page shows what is not in %v:\n%s", files, code)
			}
		}
	}
}
