/* test_io.c - the door: hostile and lucky files, JSON, shards, binding, outputs, sums.
 * Letters and numbers in names (A07, B10, H05) are the rows of the catalogue of hostile inputs. */
#include "../io.h"
#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LENGTH(literal) (sizeof(literal) - 1)

/* ---- a folder of our own --------------------------------------------------------------------- */

static char room[64];

static void empty_folder(const char *folder)
{
    DIR *d = opendir(folder);
    for (struct dirent *f; d && (f = readdir(d)); ) {
        if (!strcmp(f->d_name, ".") || !strcmp(f->d_name, "..")) continue;
        char *path = path_join(folder, f->d_name);
        struct stat s;
        if (!lstat(path, &s) && S_ISDIR(s.st_mode)) empty_folder(path);
        else unlink(path);
        free(path);
    }
    if (d) closedir(d);
    rmdir(folder);
}

static void clean_up(void) { empty_folder(room); }

/* The path of name in our folder; 64 may be in use. */
static const char *in_room(const char *name)
{
    static char paths[64][512];
    static int next;
    if (!room[0]) {
        snprintf(room, sizeof room, "/tmp/fusion-test-io-XXXXXX");
        if (!mkdtemp(room)) exit(2);
        atexit(clean_up);
        signal(SIGPIPE, SIG_IGN);
        signal(SIGXFSZ, SIG_IGN);
    }
    next = (next + 1) % 64;
    snprintf(paths[next], sizeof paths[next], "%s/%s", room, name);
    return paths[next];
}

static const char *put(const char *name, const void *bytes, size_t n)
{
    const char *path = in_room(name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f)) exit(2);
    return path;
}

static const char *put_text(const char *name, const char *text)
{
    return put(name, text, strlen(text));
}

/* A safetensors file: the length of header, header, data bytes 0, 1, 2, ... */
static const char *put_safe(const char *name, const char *header, size_t n, size_t data)
{
    uint8_t *bytes = malloc(8 + n + data);
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)((uint64_t)n >> 8 * i);
    memcpy(bytes + 8, header, n);
    for (size_t i = 0; i < data; i++) bytes[8 + n + i] = (uint8_t)i;
    const char *path = put(name, bytes, 8 + n + data);
    free(bytes);
    return path;
}

/* text with its ' made ", in memory the caller frees: JSON that C can read. */
static char *quoted(const char *text)
{
    char *copied = strdup(text);
    for (char *c = copied; *c; c++)
        if (*c == '\'') *c = '"';
    return copied;
}

static const char *put_header(const char *name, const char *header, size_t data)
{
    char *json = quoted(header);
    const char *path = put_safe(name, json, strlen(json), data);
    free(json);
    return path;
}

/* What the file holds, NUL-terminated, in memory the caller frees; "" when it is missing. */
static char *get(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    char *bytes = calloc(1, 1 << 20);
    *n = f ? fread(bytes, 1, (1 << 20) - 1, f) : 0;
    if (f) fclose(f);
    return bytes;
}

static bool holds_text(const char *path, const char *text)
{
    size_t n;
    char *bytes = get(path, &n);
    bool same = n == strlen(text) && !memcmp(bytes, text, n);
    free(bytes);
    return same;
}

/* How many temporary files lie in our folder. */
static int leftovers(void)
{
    int count = 0;
    DIR *d = opendir(room);
    for (struct dirent *f; d && (f = readdir(d)); ) count += strstr(f->d_name, ".fusion-") != NULL;
    if (d) closedir(d);
    return count;
}

/* A message must be one line that begins with where and holds want. */
#define CHECK_ERROR(e, where, want) check_error(__LINE__, &(e), where, want)
static void check_error(int line, const Error *e, const char *where, const char *want)
{
    bool plain = e->code == 1 && e->text[0];
    for (const char *c = e->text; *c; c++) plain = plain && (unsigned char)*c >= 0x20 && *c != 0x7f;
    if (plain && !strncmp(e->text, where, strlen(where)) && strstr(e->text, want)) return;
    checks_failed++;
    printf("%s:%d: got '%s', want '%s ... %s'\n", __FILE__, line, e->text, where, want);
}

/* Opens path: all is well when want is NULL, else the message holds want. */
#define CHECK_WEIGHTS(path, want) check_weights(__LINE__, path, want, "")
static void check_weights(int line, const char *path, const char *want, const char *case_)
{
    Error e = { 0 };
    Weights w;
    bool ok = weights_open(&w, path, NULL, &e);
    if (ok != !want) {
        checks_failed++;
        printf("%s:%d: %s: %s %s\n", __FILE__, line, case_, ok ? "was accepted, want" : e.text,
               ok ? want : "");
    } else if (want) {
        int before = checks_failed;
        check_error(line, &e, path, want);
        if (checks_failed > before) printf("    of case %s\n", case_);
    }
    weights_close(&w);
}

/* Run in a process of its own, which may close and limit what it likes; its exit code. */
static int apart(void (*run)(void))
{
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        run();
        _exit(0);
    }
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- safetensors: headers -------------------------------------------------------------------- */

#define T(name, dtype, shape, offsets) \
    "'" name "':{'dtype':'" dtype "','shape':" shape ",'data_offsets':[" offsets "]}"
#define ONE(dtype, shape, offsets) "{" T("t", dtype, shape, offsets) "}"
#define GOOD T("t", "U8", "[4]", "0,4")
#define DEEP10(x) "[[[[[[[[[[" x "]]]]]]]]]]"

typedef struct { const char *header; size_t data; const char *want; } Case;

static const Case cases[] = {
    /* A22, A21, A20, A23, A26: what must be accepted */
    { "{}", 0, NULL },
    { "{" GOOD "}", 4, NULL },
    { ONE("F32", "[]", "0,4"), 4, NULL },
    { ONE("F32", "[0]", "0,0"), 0, NULL },
    { ONE("F32", "[3,0,5]", "0,0"), 0, NULL },
    { ONE("U8", "[0,9223372036854775808,2]", "0,0"), 0, NULL },
    { ONE("F32", "[1,1,1,1,1,1,1,1,1,1]", "0,4"), 4, NULL },
    { "{" T("a", "U8", "[1]", "0,1") "," T("b", "F32", "[1]", "1,5") "}", 5, NULL },
    { "{" T("b", "F32", "[1]", "1,5") "," T("a", "U8", "[1]", "0,1") "}", 5, NULL },
    { "{" T("a", "U8", "[4]", "0,4") "," T("n", "F32", "[0]", "4,4") "}", 4, NULL },
    { "{" T("n", "F32", "[0]", "0,0") "," T("a", "U8", "[4]", "0,4") "}", 4, NULL },
    { "{" T("a", "U8", "[2]", "0,2") "," T("n", "U8", "[0]", "2,2") ","
      T("b", "U8", "[2]", "2,4") "}", 4, NULL },
    { "{" T("m", "U8", "[0]", "0,0") "," T("n", "U8", "[0]", "0,0") "}", 0, NULL },
    { ONE("BOOL", "[2]", "0,2"), 2, NULL },           { ONE("F4", "[4]", "0,2"), 2, NULL },
    { ONE("F6_E2M3", "[4]", "0,3"), 3, NULL },        { ONE("F6_E3M2", "[8]", "0,6"), 6, NULL },
    { ONE("U8", "[2]", "0,2"), 2, NULL },             { ONE("I8", "[2]", "0,2"), 2, NULL },
    { ONE("F8_E5M2", "[2]", "0,2"), 2, NULL },        { ONE("F8_E4M3", "[2]", "0,2"), 2, NULL },
    { ONE("F8_E8M0", "[2]", "0,2"), 2, NULL },        { ONE("F8_E4M3FNUZ", "[2]", "0,2"), 2, NULL },
    { ONE("F8_E5M2FNUZ", "[2]", "0,2"), 2, NULL },    { ONE("I16", "[2]", "0,4"), 4, NULL },
    { ONE("U16", "[2]", "0,4"), 4, NULL },            { ONE("F16", "[2]", "0,4"), 4, NULL },
    { ONE("BF16", "[2]", "0,4"), 4, NULL },           { ONE("I32", "[2]", "0,8"), 8, NULL },
    { ONE("U32", "[2]", "0,8"), 8, NULL },            { ONE("F32", "[2]", "0,8"), 8, NULL },
    { ONE("C64", "[2]", "0,16"), 16, NULL },          { ONE("F64", "[2]", "0,16"), 16, NULL },
    { ONE("I64", "[2]", "0,16"), 16, NULL },          { ONE("U64", "[2]", "0,16"), 16, NULL },
    { "{'t':{'data_offsets':[0,4],'shape':[4],'dtype':'U8'}}", 4, NULL },
    { "{\n\t't' : {\r\n 'dtype' : 'U8' , 'shape' : [ 4 ] , 'data_offsets' : [ 0 , 4 ] } }", 4,
      NULL },
    { "{" GOOD "}    ", 4, NULL },
    { "{" GOOD "}\t\r\n ", 4, NULL },
    { " \n{" GOOD "}", 4, NULL },
    { "{'__metadata__':{}," GOOD "}", 4, NULL },
    { "{'__metadata__':{'format':'pt','x':'}{','':'e'}," GOOD "}", 4, NULL },
    { "{" GOOD ",'__metadata__':{'\\u0000':'\\n'}}", 4, NULL },
    { "{'__metadata__':{'a':'b'}}", 0, NULL },
    { "{" T("", "U8", "[4]", "0,4") "}", 4, NULL },
    { "{" T("\\u001b[2J\\n%s%n../../etc", "U8", "[4]", "0,4") "}", 4, NULL },
    { "{" T("\\u00e9\\ud83d\\ude00\xc3\xa9\xf0\x9f\x98\x80", "U8", "[4]", "0,4") "}", 4, NULL },
    { "{" T("t", "U8", "[2]", "0,2") "," T("t\\u0000", "U8", "[2]", "2,4") "}", 4, NULL },
    { "{" T("t", "U8", "[2]", "0,2") "," T("T", "U8", "[2]", "2,4") "}", 4, NULL },
    { "{'t':{'dtype':'U8','shape':[4],'data_offsets':[0,4],"
      "'extra':{'a':[1,-1.5e+3,null,true,false]}}}", 4, NULL },
    { "{'t':{'\\u0064type':'\\u00558','shape':[4],'data_offsets':[0,4]}}", 4, NULL },

    /* A07: UTF-8 */
    { "{" T("\xc0\x80", "U8", "[4]", "0,4") "}", 4, "byte 10: found byte 0xc0 in a string" },
    { "{" T("\xe0\x80\x80", "U8", "[4]", "0,4") "}", 4, "0xe0" },
    { "{" T("\xf0\x80\x80\x80", "U8", "[4]", "0,4") "}", 4, "0xf0" },
    { "{" T("\xed\xa0\x80", "U8", "[4]", "0,4") "}", 4, "0xed" },
    { "{" T("\xf4\x90\x80\x80", "U8", "[4]", "0,4") "}", 4, "0xf4" },
    { "{" T("\xf8\x88\x80\x80\x80", "U8", "[4]", "0,4") "}", 4, "0xf8" },
    { "{" T("\xc3", "U8", "[4]", "0,4") "}", 4, "0xc3" },
    { "{" T("\xe2\x82", "U8", "[4]", "0,4") "}", 4, "0xe2" },
    { "{" T("\xf0\x9f\x98", "U8", "[4]", "0,4") "}", 4, "0xf0" },
    { "{" T("\x80", "U8", "[4]", "0,4") "}", 4, "0x80" },
    { "{" T("\xff", "U8", "[4]", "0,4") "}", 4, "0xff" },
    { "\xef\xbb\xbf{" GOOD "}", 4, "byte 8: found byte 0xef" },
    { "{'__metadata__':{'a':'\xfe'}," GOOD "}", 4, "0xfe" },

    /* A08: JSON, with the byte of the file */
    { "", 4, "" },                                    { " ", 4, "the text ends" },
    { "{", 0, "byte 9: the text ends" },              { "}", 0, "byte 8: found '}', want a value" },
    { "{" GOOD, 4, "the text ends, want ',' or '}'" },
    { "{" GOOD ",}", 4, "found '}', want a key in quotes" },
    { "{," GOOD "}", 4, "byte 9: found ',', want a key" },
    { "{" GOOD "}}", 4, "want nothing after the value" },
    { "{" GOOD "}{}", 4, "nothing after" },           { "{" GOOD "} x", 4, "nothing after" },
    { "{" GOOD "}//", 4, "nothing after" },           { "/**/{" GOOD "}", 4, "byte 8: found '/'" },
    { "{t:1}", 0, "want a key in quotes" },
    { "{'t' 1}", 0, "byte 13: found '1', want ':'" },
    { "{'t':}", 0, "want a value" },                  { "{'t'}", 0, "want ':'" },
    { "{'t", 0, "byte 9: this string has no end" },   { "{'t\\", 0, "has no end" },
    { "{'t\\':1}", 0, "has no end" },                 { "{'\\x':1}", 0, "after a backslash" },
    { "{'\\u12':1}", 0, "four hexadecimal" },         { "{'\\u12g4':1}", 0, "found 'g'" },
    { "{'\\ud800':1}", 0, "half a surrogate" },       { "{'\\udc00':1}", 0, "half a surrogate" },
    { "{'\\ud800\\ud800':1}", 0, "half a surrogate" },
    { "{'\\ud800\\n':1}", 0, "half a surrogate" },
    { "{'a\nb':1}", 0, "control byte 0x0a" },         { "{'a\x1f':1}", 0, "control byte 0x1f" },
    { "{'a\tb':1}", 0, "control byte 0x09" },
    { "{'t':NaN}", 0, "found 'N', want a value" },    { "{'t':Infinity}", 0, "found 'I'" },
    { "{'t':-Infinity}", 0, "want a digit" },         { "{'t':nul}", 0, "found 'n'" },
    { "{'t':True}", 0, "found 'T'" },                 { "{'t':undefined}", 0, "found 'u'" },
    { "{'t':01}", 0, "begins with 0" },               { "{'t':-}", 0, "want a digit" },
    { "{'t':1.}", 0, "want a digit" },                { "{'t':.5}", 0, "found '.'" },
    { "{'t':1e}", 0, "want a digit" },                { "{'t':1e+}", 0, "want a digit" },
    { "{'t':+1}", 0, "found '+'" },                   { "{'t':0x10}", 0, "found 'x'" },
    { "{'t':[1,]}", 0, "found ']', want a value" },   { "{'t':[1 2]}", 0, "want ',' or ']'" },
    { "{'t':[1}", 0, "want ',' or ']'" },             { "{'t':'a' 'b'}", 0, "want ',' or '}'" },
    { "{\v" GOOD "}", 4, "byte 0x0b" },               { "{\f}", 0, "byte 0x0c" },
    { "{\xc2\xa0}", 0, "byte 0xc2" },                 { "[]", 0, "not a JSON object" },
    { "'x'", 0, "not a JSON object" },                { "null", 0, "not a JSON object" },
    { "12", 0, "not a JSON object" },

    /* A09 */
    { "{'__metadata__':{'a':" DEEP10(DEEP10(DEEP10("1"))) "}," GOOD "}", 4, "is not a string" },
    { "{'t':" DEEP10(DEEP10(DEEP10(DEEP10(DEEP10(DEEP10(DEEP10(DEEP10(DEEP10(DEEP10(DEEP10(DEEP10(
      DEEP10("1"))))))))))))) "}", 0, "nested deeper than 128" },

    /* A10 */
    { "{" GOOD "," GOOD "}", 4, "key \"t\" is here for the second time" },
    { "{" T("t", "U8", "[2]", "0,2") "," T("t", "U8", "[2]", "2,4") "}", 4, "\"t\"" },
    { "{" T("t", "U8", "[2]", "0,2") "," T("\\u0074", "U8", "[2]", "2,4") "}", 4, "\"t\"" },
    { "{'__metadata__':{},'__metadata__':{}," GOOD "}", 4, "\"__metadata__\"" },
    { "{'__metadata__':{'a':'1','a':'2'}," GOOD "}", 4, "\"a\"" },
    { "{'t':{'dtype':'U8','dtype':'U8','shape':[4],'data_offsets':[0,4]}}", 4, "\"dtype\"" },
    { "{'t':{'dtype':'U8','shape':[4],'shape':[4],'data_offsets':[0,4]}}", 4, "\"shape\"" },
    { "{'t':{'dtype':'U8','shape':[4],'data_offsets':[0,4],'data_offsets':[0,4]}}", 4,
      "\"data_offsets\"" },

    /* A11 */
    { "{'__metadata__':null," GOOD "}", 4, "__metadata__ is not an object" },
    { "{'__metadata__':'a'," GOOD "}", 4, "__metadata__ is not an object" },
    { "{'__metadata__':['a']," GOOD "}", 4, "__metadata__ is not an object" },
    { "{'__metadata__':{'a':1}," GOOD "}", 4, "\"a\" is not a string" },
    { "{'__metadata__':{'a':null}," GOOD "}", 4, "\"a\" is not a string" },
    { "{'__metadata__':{'a':{'b':'c'}}," GOOD "}", 4, "\"a\" is not a string" },

    /* A12 */
    { "{'t':{'shape':[4],'data_offsets':[0,4]}}", 4, "tensor 't': dtype is missing" },
    { "{'t':{'dtype':'U8','data_offsets':[0,4]}}", 4, "tensor 't': shape is missing" },
    { "{'t':{'dtype':'U8','shape':[4]}}", 4, "tensor 't': data_offsets is missing" },
    { "{'t':{}}", 4, "dtype is missing" },
    { "{'t':null}", 4, "tensor 't': its entry is not an object" },
    { "{'t':['U8',[4],[0,4]]}", 4, "its entry is not an object" },
    { "{'t':'U8'}", 4, "its entry is not an object" },
    { "{'t':{'dtype':null,'shape':[4],'data_offsets':[0,4]}}", 4, "dtype is not a string" },
    { "{'t':{'dtype':8,'shape':[4],'data_offsets':[0,4]}}", 4, "dtype is not a string" },
    { "{'t':{'dtype':'U8','shape':4,'data_offsets':[0,4]}}", 4, "shape is not an array" },
    { "{'t':{'dtype':'U8','shape':null,'data_offsets':[0,4]}}", 4, "shape is not an array" },
    { "{'t':{'dtype':'U8','shape':{'0':4},'data_offsets':[0,4]}}", 4, "shape is not an array" },
    { "{'t':{'dtype':'U8','shape':'4','data_offsets':[0,4]}}", 4, "shape is not an array" },
    { "{'t':{'dtype':'U8','shape':[4],'data_offsets':null}}", 4, "data_offsets is not an array" },
    { "{'t':{'dtype':'U8','shape':[4],'data_offsets':{'0':0,'1':4}}}", 4,
      "data_offsets is not an array" },
    { "{'t':{'DTYPE':'U8','shape':[4],'data_offsets':[0,4]}}", 4, "dtype is missing" },

    /* A13 */
    { ONE("", "[4]", "0,4"), 4, "tensor 't': dtype \"\" is not known" },
    { ONE("u8", "[4]", "0,4"), 4, "dtype \"u8\" is not known" },
    { ONE("U8 ", "[4]", "0,4"), 4, "dtype \"U8 \"" },
    { ONE("U8\\u0000", "[4]", "0,4"), 4, "dtype \"U8\\x00\"" },
    { ONE("U", "[4]", "0,4"), 4, "dtype \"U\"" },
    { ONE("Q4_0", "[4]", "0,4"), 4, "dtype \"Q4_0\"" },
    { ONE("float32", "[1]", "0,4"), 4, "dtype \"float32\"" },

    /* A14 */
    { ONE("U8", "[-4]", "0,4"), 4, "shape: found -4, want whole numbers" },
    { ONE("U8", "[-2,-2]", "0,4"), 4, "shape: found -2" },
    { ONE("U8", "[-0]", "0,0"), 0, "shape: found -0" },
    { ONE("U8", "[4.0]", "0,4"), 4, "shape: found 4.0" },
    { ONE("U8", "[4e0]", "0,4"), 4, "shape: found 4e0" },
    { ONE("U8", "['4']", "0,4"), 4, "shape: found what is no number" },
    { ONE("U8", "[null]", "0,4"), 4, "shape: found what is no number" },
    { ONE("U8", "[true]", "0,1"), 1, "shape: found what is no number" },
    { ONE("U8", "[[4]]", "0,4"), 4, "shape: found what is no number" },
    { ONE("U8", "[18446744073709551616]", "0,4"), 4, "shape: found 18446744073709551616" },
    { ONE("U8", "[18446744073709551620]", "0,4"), 4, "shape: found 18446744073709551620" },
    { ONE("U8", "[99999999999999999999999999]", "0,4"), 4, "shape: found 9999" },

    /* A15 */
    { ONE("U8", "[4294967296,4294967296]", "0,0"), 0, "size overflows" },
    { ONE("U8", "[9223372036854775808,2,0]", "0,0"), 0, "size overflows" },
    { ONE("U8", "[4294967296,4294967297]", "0,4294967296"), 4, "size overflows" },
    { ONE("F32", "[4611686018427387904]", "0,0"), 0, "size overflows" },
    { ONE("F32", "[4611686018427387905]", "0,4"), 4, "size overflows" },
    { ONE("F32", "[576460752303423488]", "0,2305843009213693952"), 4, "size overflows" },
    { ONE("F64", "[288230376151711744]", "0,0"), 0, "size overflows" },
    { ONE("U8", "[2305843009213693952]", "0,0"), 0, "size overflows" },
    { ONE("U8", "[18446744073709551615]", "0,18446744073709551615"), 4, "size overflows" },
    { ONE("F32", "[65536,65536]", "0,0"), 0,
      "its shape needs 17179869184 bytes of F32, data_offsets has 0" },
    { ONE("F4", "[3]", "0,1"), 1, "3 values of 4 bits do not fill whole bytes" },
    { ONE("F6_E2M3", "[2]", "0,2"), 2, "do not fill whole bytes" },

    /* A16 */
    { ONE("F32", "[4]", "0,4"), 4, "its shape needs 16 bytes of F32, data_offsets has 4" },
    { ONE("U8", "[2]", "0,4"), 4, "its shape needs 2 bytes of U8, data_offsets has 4" },
    { ONE("U8", "[0]", "0,4"), 4, "needs 0 bytes" },
    { ONE("F32", "[]", "0,8"), 8, "needs 4 bytes" },

    /* A17 */
    { ONE("U8", "[4]", "4,0"), 4, "data_offsets run backwards, from 4 to 0" },
    { ONE("U8", "[4]", "0"), 4, "array of two numbers" },
    { ONE("U8", "[4]", ""), 4, "array of two numbers" },
    { ONE("U8", "[4]", "0,4,8"), 4, "array of two numbers" },
    { ONE("U8", "[4]", "0,4.0"), 4, "want whole numbers" },
    { ONE("U8", "[4]", "-4,0"), 4, "want whole numbers" },
    { ONE("U8", "[4]", "-0,4"), 4, "want whole numbers" },
    { ONE("U8", "[4]", "'0',4"), 4, "want whole numbers" },
    { ONE("U8", "[4]", "null,4"), 4, "want whole numbers" },
    { ONE("U8", "[4]", "18446744073709551616,4"), 4, "want whole numbers" },
    { ONE("U8", "[8]", "0,8"), 4, "file has 65 bytes, needs 69: truncated download?" },
    { ONE("U8", "[1152921504606846976]", "0,1152921504606846976"), 4, "truncated download?" },
    { ONE("U8", "[4]", "9223372036854775804,9223372036854775808"), 4,
      "begins at byte 9223372036854775804" },
    { ONE("U8", "[4]", "18446744073709551611,18446744073709551615"), 4,
      "want 0: the 18446744073709551611" },

    /* A18 */
    { ONE("U8", "[4]", "1,5"), 5, "tensor 't': begins at byte 1 of the data, want 0: the 1 bytes" },
    { "{" T("a", "U8", "[2]", "0,2") "," T("b", "U8", "[2]", "3,5") "}", 5,
      "tensor 'b': begins at byte 3" },
    { "{" T("a", "U8", "[4]", "0,4") "," T("b", "U8", "[2]", "3,5") "}", 5,
      "[3, 5] overlap those of 'a', [0, 4]" },
    { "{" T("a", "U8", "[4]", "0,4") "," T("b", "U8", "[4]", "0,4") "}", 4, "overlap" },
    { "{" T("a", "U8", "[4]", "0,4") "," T("b", "U8", "[2]", "1,3") "}", 4, "overlap" },
    { "{" T("a", "U8", "[4]", "0,4") "," T("n", "U8", "[0]", "2,2") "}", 4,
      "tensor 'n': data_offsets [2, 2] overlap" },
    { "{" T("a", "U8", "[4]", "0,4") "," T("n", "U8", "[0]", "5,5") "}", 5,
      "tensor 'n': begins at byte 5" },

    /* A04, A05 */
    { "{" GOOD "}", 3, "file has 64 bytes, needs 65: truncated download?" },
    { "{" GOOD "}", 0, "file has 61 bytes, needs 65: truncated download?" },
    { "{" GOOD "}", 5, "file has 66 bytes, needs 65: what are the 1 bytes after the last tensor?" },
    { "{" GOOD "}", 99, "the 95 bytes after the last tensor?" },
    { "{}", 1, "the 1 bytes after the last tensor?" },
};

TEST(safetensors_headers)
{
    for (size_t i = 0; i < countof(cases); i++) {
        char name[40];
        snprintf(name, sizeof name, "case-%03zu.safetensors", i);
        check_weights(__LINE__, put_header(name, cases[i].header, cases[i].data), cases[i].want,
                      cases[i].header);
    }
    CHECK(countof(cases) > 200);
}

/* A06: what people really put there. */
static const struct { const char *bytes; size_t n; const char *want; } foreigns[] = {
#define BYTES(literal) literal, LENGTH(literal)
    { BYTES("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"),
      "Git LFS pointer" },
    { BYTES("<!DOCTYPE html>\n<html><body>404</body></html>"), "an HTML page" },
    { BYTES("\n  <HTML><body>404</body></html>"), "an HTML page" },
    { BYTES("<?xml version='1.0'?><Error/>"), "an XML page" },
    { BYTES("{\"error\":\"Repository not found\"}"), "JSON text" },
    { BYTES("PK\3\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\0\0archive/data.pkl1234567"),
      "PyTorch checkpoint" },
    { BYTES("PK\3\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x08\0\0\0text.txt........."),
      "a zip archive" },
    { BYTES("\x80\x02}q\0(X\6\0\0\0weightq\1ctorch._utils\n"), "a pickle" },
    { BYTES("GGUF\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), "a GGUF model" },
    { BYTES("\x1f\x8b\x08\0\0\0\0\0\0\3abcdefgh"), "gzip" },
    { BYTES("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), "nothing but zeros" },
    { BYTES("\x89HDF\r\n\x1a\n\0\0\0\0\0\0\0\0"), "HDF5" },
    { BYTES("\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), "a PNG picture" },
    { BYTES("\xff\xd8\xff\xe0\0\x10JFIF\0\1"), "a JPEG picture" },
    { BYTES("RIFF\x24\0\0\0WAVEfmt "), "a WAV sound" },
};

TEST(foreign_formats)
{
    for (size_t i = 0; i < countof(foreigns); i++) {
        const char *found = foreign_format((const uint8_t *)foreigns[i].bytes, foreigns[i].n);
        CHECK(found && strstr(found, foreigns[i].want));
        CHECK_WEIGHTS(put("foreign.safetensors", foreigns[i].bytes, foreigns[i].n),
                      foreigns[i].want);
        for (size_t cut = 0; cut < foreigns[i].n; cut++)                   /* never past the end */
            foreign_format((const uint8_t *)foreigns[i].bytes + cut, foreigns[i].n - cut);
    }
    CHECK(!foreign_format(NULL, 0));
    CHECK(!foreign_format((const uint8_t *)"an essay on nothing", 19));
    CHECK_STR(foreign_format((const uint8_t *)"\2\0\0\0\0\0\0\0{}", 10), "a safetensors file");
}

TEST(header_length_A01_A02_A04)
{
    char *json = quoted("{" GOOD "}");
    size_t n = strlen(json);
    uint8_t bytes[256] = { (uint8_t)n };
    memcpy(bytes + 8, json, n);
    for (size_t size = 0; size < 8; size++)
        CHECK_WEIGHTS(put("short", bytes, size), "too short for the header length");
    CHECK_WEIGHTS(put("cut-header", bytes, 8),
                  "file has 8 bytes, needs 61 for its header: truncated download?");
    CHECK_WEIGHTS(put("cut-header", bytes, 30),
                  "file has 30 bytes, needs 61 for its header: truncated download?");
    CHECK_WEIGHTS(put("cut-data", bytes, 8 + n),
                  "file has 61 bytes, needs 65: truncated download?");
    CHECK_WEIGHTS(put("whole", bytes, 8 + n + 4), NULL);
    for (size_t more = 5; more < 13; more++) {
        bytes[0] = (uint8_t)(n + more);
        CHECK_WEIGHTS(put("past", bytes, 8 + n + 4), "for its header: truncated download?");
    }

    static const uint64_t lengths[] = {
        0xffffffffffffffff, 0xfffffffffffffff8, 0xfffffffffffffff7, 1ull << 63, (1ull << 63) - 1,
        1ull << 32, 100000001, (1ull << 32) + 53,
    };
    for (size_t i = 0; i < countof(lengths); i++) {
        for (int k = 0; k < 8; k++) bytes[k] = (uint8_t)(lengths[i] >> 8 * k);
        CHECK_WEIGHTS(put("length", bytes, 8 + n + 4), "want at most 100000000");
    }
    for (int k = 0; k < 8; k++) bytes[k] = (uint8_t)(100000000ull >> 8 * k);
    CHECK_WEIGHTS(put("length", bytes, 8 + n + 4),
                  "needs 100000008 for its header: truncated download?");
    free(json);
    CHECK_WEIGHTS(put_safe("nul-padded", "{}\0\0\0\0\0\0", 8, 0), "byte 10: found byte 0x00");
    CHECK_WEIGHTS(put_safe("nul-in-name", "{\"a\0b\":1}", 9, 0), "control byte 0x00");
}

/* A03: a header of exactly the most, and of one byte more, in files that really are that long. */
TEST(header_at_the_limit_A03)
{
    size_t most = 100000000;
    char *header = malloc(most + 1);
    memset(header, ' ', most + 1);
    header[0] = '{', header[most - 1] = '}', header[most] = ' ';
    double start = now();
    CHECK_WEIGHTS(put_safe("limit", header, most, 0), NULL);
    CHECK_WEIGHTS(put_safe("limit", header, most + 1, 0), "want at most 100000000");
    CHECK(now() - start < 10);
    unlink(in_room("limit"));
    free(header);
}

/* A19, A20, A09: many tensors, long names, deep brackets; in linear time. */
TEST(many_and_long_A09_A19_A20)
{
    static const char entry[] = "%s\"t%d\":{\"dtype\":\"F32\",\"shape\":[1],"
                                "\"data_offsets\":[%d,%d]}";
    size_t used = 0;
    char *header = malloc(4 << 20);
    for (int bomb = 0; bomb < 2; bomb++) {
        used = (size_t)sprintf(header, "{");
        for (int i = 0; i < 20000; i++) {
            int at = bomb ? 0 : 4 * i;
            used += (size_t)sprintf(header + used, entry, i ? "," : "", i, at, at + 4);
        }
        used += (size_t)sprintf(header + used, "}");
        double start = now();
        CHECK_WEIGHTS(put_safe("many", header, used, bomb ? 4 : 80000), bomb ? "overlap" : NULL);
        CHECK(now() - start < 1);
    }

    used = (size_t)sprintf(header, "{\"");
    memset(header + used, 'x', 100000);
    used += 100000;
    used += (size_t)sprintf(header + used,
                            "\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}");
    CHECK_WEIGHTS(put_safe("long", header, used, 4), NULL);
    CHECK_WEIGHTS(put_safe("long", header, used, 2), "truncated");
    header[used - 4] = '9';                                          /* the message cuts the name */
    CHECK_WEIGHTS(put_safe("long", header, used, 4), "xxx...': its shape needs 4 bytes");

    memset(header, '[', 100000);
    CHECK_WEIGHTS(put_safe("deep", header, 100000, 0), "byte 136: nested deeper than 128");
    used = (size_t)sprintf(header, "{\"t\":{\"dtype\":\"U8\",\"shape\":[");
    memset(header + used, '1', 1000000);
    used += 1000000;
    used += (size_t)sprintf(header + used, "],\"data_offsets\":[0,4]}}");
    CHECK_WEIGHTS(put_safe("digits", header, used, 4), "111...");
    free(header);
}

/* A25: 64-bit offsets in a sparse file of 4 GB. */
TEST(offsets_of_64_bits_A25)
{
    if (sizeof(size_t) < 8) return;
    const char *path = put_header("big", "{" T("a", "U8", "[4294967297]", "0,4294967297") ","
                                  T("b", "F32", "[1]", "4294967297,4294967301") "}", 0);
    int fd = open(path, O_WRONLY | O_APPEND);
    off_t start = lseek(fd, 0, SEEK_END);
    bool sparse = !ftruncate(fd, start + 4294967297) && write(fd, "\1\2\3\4", 4) == 4;
    close(fd);
    Error e = { 0 };
    Weights w;
    if (sparse) {
        CHECK(weights_open(&w, path, NULL, &e));
        const Entry *b = weights_find(&w, "b");
        CHECK(b && b->begin == 4294967297 && !memcmp(b->at, "\1\2\3\4", 4));
        weights_close(&w);
    }
    unlink(path);
}

/* A24, A21: what an entry says. */
TEST(entries)
{
    Error e = { 0 };
    Weights w;
    const char *path = put_header("entries", "{'__metadata__':{'format':'pt'},"
                                  T("t\\u0000x", "U8", "[1]", "0,1") ","
                                  T("b", "F32", "[2,1]", "1,9") ","
                                  T("s", "I64", "[]", "9,17") "}", 17);
    CHECK(weights_open(&w, path, NULL, &e));
    CHECK(w.count == 3 && w.file_count == 1);
    CHECK_STR(w.path, path);
    CHECK(!weights_find(&w, "t"));
    CHECK(!weights_find(&w, ""));
    CHECK(w.entries[0].name_length == 3 && !memcmp(w.entries[0].name, "t\0x", 4));
    const Entry *b = weights_find(&w, "b"), *s = weights_find(&w, "s");
    CHECK(b && b->rank == 2 && b->shape[0] == 2 && b->shape[1] == 1 && b->type == F32
          && b->begin == 1 && b->end == 9);
    CHECK(b && !memcmp(b->at, "\1\2\3\4\5\6\7\x08", 8));
    CHECK(s && s->rank == 0 && s->type == NOT_COMPUTED && !s->bound);
    if (s) CHECK_STR(s->dtype, "I64");
    CHECK(json_is(json_get(weights_metadata(&w, 0), "format"), "pt"));
    CHECK(!weights_metadata(&w, 1) && !weights_metadata(&w, -1));
    weights_close(&w);
    weights_close(&w);
}

/* ---- folders and shards ---------------------------------------------------------------------- */

static void put_two_shards(void)
{
    put_header("m/a-1.safetensors",
               "{" T("x", "F32", "[1]", "0,4") "," T("extra", "U8", "[1]", "4,5") "}", 5);
    put_header("m/a-2.safetensors", "{'__metadata__':{'k':'v'}," T("y", "F32", "[1]", "0,4") "}",
               4);
}

static void check_index(int line, const char *index, const char *want)
{
    Error e = { 0 };
    Weights w;
    char *json = quoted(index);
    put_text("m/s.safetensors.index.json", json);
    free(json);
    bool ok = weights_open(&w, in_room("m"), "s", &e);
    if (ok != !want) {
        checks_failed++;
        printf("%s:%d: %s: %s\n", __FILE__, line, index, ok ? "was accepted" : e.text);
    } else if (want) {
        check_error(line, &e, in_room("m"), want);
    } else {
        CHECK(w.file_count == 2 && w.count == 3);
        CHECK(weights_find(&w, "x") && weights_find(&w, "y") && weights_find(&w, "extra"));
        CHECK(json_is(json_get(weights_metadata(&w, 1), "k"), "v"));
        CHECK(weights_unbound(&w, "", NULL, NULL) == 3);
    }
    weights_close(&w);
}

TEST(shards_H25)
{
    mkdir(in_room("m"), 0777);
    put_two_shards();
#define MAP(members) "{'metadata':{'total_size':9},'weight_map':{" members "}}"
    check_index(__LINE__, MAP("'x':'a-1.safetensors','y':'a-2.safetensors'"), NULL);
    check_index(__LINE__, MAP("'y':'a-2.safetensors','x':'a-1.safetensors',"
                              "'extra':'a-1.safetensors'"), NULL);
    check_index(__LINE__, MAP("'x':'a-1.safetensors','y':'a-3.safetensors'"),
                "a-3.safetensors: missing, it is a shard");
    check_index(__LINE__, MAP("'x':'a-2.safetensors','y':'a-2.safetensors'"),
                "tensor 'x': is not in any shard");
    check_index(__LINE__, MAP("'x':'a-2.safetensors','y':'a-1.safetensors'"),
                "a-1.safetensors, want it in a-2.safetensors");
    check_index(__LINE__, MAP("'z':'a-1.safetensors','y':'a-2.safetensors'"),
                "tensor 'z': is not in any shard");
    check_index(__LINE__, MAP("'x':'../a-1.safetensors'"),
                "found file name ../a-1.safetensors, want the name");
    check_index(__LINE__, MAP("'x':'/etc/passwd'"), "found file name /etc/passwd");
    check_index(__LINE__, MAP("'x':'..'"), "found file name ..");
    check_index(__LINE__, MAP("'x':''"), "found file name ,");
    check_index(__LINE__, MAP("'x':'.'"), "found file name .,");
    check_index(__LINE__, MAP("'x':'a\\u0000'"), "found file name a\\x00");
    check_index(__LINE__, MAP("'x':1"), "found what is no string");
    check_index(__LINE__, MAP(""), "weight_map is not an object");
    check_index(__LINE__, "{}", "weight_map is not an object");
    check_index(__LINE__, "{'weight_map':[]}", "weight_map is not an object");
    check_index(__LINE__, "[]", "weight_map is not an object");
    check_index(__LINE__, "{", "line 1, column 2");
    put_header("m/a-2.safetensors",
               "{" T("y", "F32", "[1]", "0,4") "," T("x", "F32", "[1]", "4,8") "}", 8);
    check_index(__LINE__, MAP("'x':'a-1.safetensors','y':'a-2.safetensors'"),
                "tensor 'x': is also in");
    put_header("m/a-2.safetensors", "{" T("y", "F32", "[1]", "0,4") "}", 3);
    check_index(__LINE__, MAP("'x':'a-1.safetensors','y':'a-2.safetensors'"),
                "a-2.safetensors: file has");

    char *many = calloc(1, 200000);
    size_t used = (size_t)sprintf(many, "{\"weight_map\":{");
    for (int i = 0; i < 2000; i++)
        used += (size_t)sprintf(many + used, "%s\"%d\":\"f%d\"", i ? "," : "", i, i);
    sprintf(many + used, "}}");
    check_index(__LINE__, many, "names 2000 files, want at most 1024");
    free(many);
}

/* The order of the forms, and of the alternatives of a stem. */
TEST(folders)
{
    static const char *const order[] = {                            /* each wins over those below */
        "f/one.safetensors", "f/one.safetensors.index.json", "f/one.fp16.safetensors",
        "f/one.safetensors.index.fp16.json", "f/two.safetensors", "f/two.fp16.safetensors",
    };
    Error e = { 0 };
    Weights w;
    mkdir(in_room("f"), 0777);
    CHECK(!weights_open(&w, in_room("f"), "one|two", &e));
    CHECK_ERROR(e, in_room("f"), "no weights here, looked for one.safetensors or two.safetensors");
    put_text("f/pytorch_model.bin", "\x80\2");
    e = (Error){ 0 };
    CHECK(!weights_open(&w, in_room("f"), "one|two", &e));
    CHECK_ERROR(e, in_room("f"), "found pytorch_model.bin, which is another format");
    for (size_t i = countof(order); i--; ) {
        if (strstr(order[i], ".json")) put_text(order[i], "{\"weight_map\":{\"x\":\"shard\"}}");
        else put_header(order[i], "{" T("x", "U8", "[1]", "0,1") "}", 1);
        put_header("f/shard", "{" T("x", "U8", "[1]", "0,1") "}", 1);
        e = (Error){ 0 };
        CHECK(weights_open(&w, in_room("f"), "one|two", &e));
        CHECK_STR(w.path ? w.path : e.text, in_room(order[i]));
        weights_close(&w);
    }
    CHECK_WEIGHTS(in_room("f"), "is a folder, want a .safetensors file");
    CHECK_WEIGHTS(in_room("nowhere"), "cannot open: No such file or directory");
    CHECK_WEIGHTS(in_room("nowhere/x.safetensors"), "No such file or directory");
}

/* ---- binding --------------------------------------------------------------------------------- */

typedef struct { Linear conv, proj; Weight scale; } Block;

static const Bind block_table[] = {
    { F(Block, conv.w), "conv.weight", "oi33", 0 },
    { F(Block, conv.b), "conv.bias", "o", OPTIONAL },
    { F(Block, proj.w), "to_out.0.weight|proj.weight", "oi|oi11", 0 },
    { F(Block, scale), "scale|logit_scale", "|1", OPTIONAL },
    { 0 },
};

/* Binds the block to a file of that header; want is the message, or NULL. */
static bool bind_block(int line, Block *b, const char *header, size_t data, const char *want)
{
    Error e = { 0 };
    Weights w;
    const char *path = put_header("block", header, data);
    memset(b, 0x55, sizeof *b);
    bool ok = weights_open(&w, path, NULL, &e)
           && bind(&w, b, block_table, DIMS(['i'] = 2, ['o'] = 1), &e, "%s.%d.", "down", 3);
    if (ok != !want) {
        checks_failed++;
        printf("%s:%d: %s\n", __FILE__, line, ok ? "was bound" : e.text);
    } else if (want) {
        check_error(line, &e, path, want);
    }
    weights_close(&w);
    return ok;
}

TEST(binding)
{
    Block b;
#define CONV T("down.3.conv.weight", "F32", "[1,2,3,3]", "0,72")
    CHECK(bind_block(__LINE__, &b,
                     "{" CONV "," T("down.3.proj.weight", "F16", "[1,2]", "72,76") "}", 76, NULL));
    CHECK(b.conv.w.rank == 4 && b.conv.w.dim[0] == 1 && b.conv.w.dim[1] == 2
          && b.conv.w.dim[3] == 3);
    CHECK(b.conv.w.type == F32 && b.proj.w.type == F16 && b.proj.w.rank == 2 && b.proj.w.at);
    CHECK(!b.conv.b.at && !b.conv.b.type && !b.scale.at && !b.scale.rank);
    CHECK(bind_block(__LINE__, &b,
                     "{" CONV "," T("down.3.to_out.0.weight", "BF16", "[1,2,1,1]", "72,76") ","
                     T("down.3.proj.weight", "U8", "[1]", "76,77") ","
                     T("down.3.logit_scale", "F32", "[]", "77,81") "}", 81, NULL));
    CHECK(b.proj.w.type == BF16 && b.proj.w.rank == 4 && b.scale.at && b.scale.rank == 0);
    bind_block(__LINE__, &b, "{" CONV "," T("down.3.proj.weight", "F16", "[1,2]", "72,76") ","
               T("down.3.scale", "F32", "[2]", "76,84") "}", 84,
               "down.3.scale: shape is 2, want a scalar or 1");
    bind_block(__LINE__, &b, "{" CONV "}", 72, "down.3.to_out.0.weight|proj.weight: missing");
    bind_block(__LINE__, &b, "{" T("down.3.conv.weight", "F32", "[1,2,1,1]", "0,8") "}", 8,
               ": down.3.conv.weight: shape is 1x2x1x1, want 1x2x3x3");
    bind_block(__LINE__, &b, "{" T("down.3.conv.weight", "F32", "[]", "0,4") "}", 4,
               "shape is a scalar, want 1x2x3x3");
    bind_block(__LINE__, &b, "{" CONV "," T("down.3.proj.weight", "F16", "[2,1]", "72,76") "}", 76,
               "down.3.proj.weight: shape is 2x1, want 1x2 or 1x2x1x1");
    bind_block(__LINE__, &b, "{" T("down.3.conv.weight", "I32", "[1,2,3,3]", "0,72") "}", 72,
               "down.3.conv.weight: dtype is I32, want F32, F16 or BF16");
    bind_block(__LINE__, &b, "{" T("down.3.conv.weight", "F8_E4M3", "[1,2,3,3]", "0,18") "}", 18,
               "dtype is F8_E4M3");
    bind_block(__LINE__, &b, "{" T("down.3.conv.weight", "F32", "[4294967297,0,3,3]", "0,0") "}", 0,
               "shape is 4294967297x0x3x3");
    bind_block(__LINE__, &b, "{" T("down.3.conv.weight", "F32", "[1,1,1,1,1,1]", "0,4") "}", 4,
               "shape is 1x1x1x1x1x1");
}

static void count_name(void *self, const Entry *t) { *(size_t *)self += t->name_length; }

TEST(unbound)
{
    static const Bind row[] = { { 0, "w", "2", 0 }, { 0 } };
    Error e = { 0 };
    Weights w;
    Weight weight;
    size_t letters = 0;
    put_header("unbound", "{" T("w", "F32", "[2]", "0,8") ","
               T("a.position_ids", "I64", "[1]", "8,16") ","
               T("bn.num_batches_tracked", "I64", "[]", "16,24") ","
               T("extra", "U8", "[1]", "24,25") "}", 25);
    CHECK(weights_open(&w, in_room("unbound"), NULL, &e));
    CHECK(weights_unbound(&w, NULL, NULL, NULL) == 4);
    CHECK(bind(&w, &weight, row, DIMS(0), &e, "%s", ""));
    CHECK(bind(&w, &weight, row, DIMS(0), &e, "%s", ""));          /* tied weights: twice is fine */
    CHECK(weights_unbound(&w, "position_ids|num_batches_tracked", count_name, &letters) == 1);
    CHECK(letters == 5);
    CHECK(weights_unbound(&w, "", NULL, NULL) == 3);
    weights_close(&w);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static Json *parse(const char *text, Error *e)
{
    char *json = quoted(text);
    *e = (Error){ 0 };
    Json *root = json_parse(json, strlen(json), "c.json", e);
    free(json);
    return root;
}

TEST(json_values)
{
    Error e;
    Json *j = parse("\xef\xbb\xbf {'a':[1,-2.5e+3,true,false,null,'x'],'b':{},"
                    "'':'\\u00e9\\ud83d\\ude00\\b\\/','n':'\\u0000z'}\n", &e);
    CHECK(j && j->type == JSON_OBJECT && j->count == 4);
    const Json *a = json_get(j, "a"), *s = json_get(j, ""), *n = json_get(j, "n");
    CHECK(a && a->type == JSON_ARRAY && a->count == 6 && a->first->type == JSON_NUMBER);
    if (a) CHECK_STR(a->first->text, "1");
    if (a) CHECK_STR(a->first->next->text, "-2.5e+3");
    CHECK(a && a->first->next->next->truth && !a->first->next->next->next->truth);
    CHECK(json_is(s, "\xc3\xa9\xf0\x9f\x98\x80\b/"));
    CHECK(n && n->length == 2 && !memcmp(n->text, "\0z", 3));
    CHECK(!json_is(n, "") && !json_is(a, "a") && !json_is(NULL, ""));
    CHECK(!json_get(a, "a") && !json_get(NULL, "a") && !json_get(j, "c"));
    json_free(j);
    json_free(NULL);
    j = parse(" 0", &e);
    CHECK(j && j->type == JSON_NUMBER && j->length == 1);
    json_free(j);
}

TEST(json_messages_B02_B05_B06_B18)
{
    static const struct { const char *text, *want; } wrongs[] = {
        { "", "line 1, column 1: the text ends, want a value" },
    { "{\n  'a': 1,\n}", "line 3, column 1: found '}', want a key in quotes" },
    { "{'\xc3\xa9':\n1 2}", "line 2, column 3: found '2', want ',' or '}'" },
    { "{'\xc3\xa9': x}", "line 1, column 7: found 'x'" },
    { "{ // no\n}", "line 1, column 3: found '/', want a key" },
    { "{'a':1,\n 'b':2, '\\u0061':3}",
          "line 2, column 9: key \"a\" is here for the second time" },
    { "{'a':NaN}", "line 1, column 6: found 'N', want a value" },
    { "{'a':Infinity}", "found 'I'" },
    { "{'a':-Infinite}", "found 'I', want a digit" },
        { "\xff\xfe{\x01", "not JSON, it looks like UTF-16 text" },
        { "<html>", "not JSON, it looks like an HTML page" },
        { "version https://git-lfs.github.com/spec/v1", "it looks like a Git LFS pointer" },
    };
    Error e;
    for (size_t i = 0; i < countof(wrongs); i++) {
        CHECK(!parse(wrongs[i].text, &e));
        CHECK_ERROR(e, "c.json: ", wrongs[i].want);
    }
}

/* B09, and the time that a vocabulary of 100 000 keys takes. */
TEST(json_deep_and_wide)
{
    Error e = { 0 };
    size_t size = 4 << 20, used = 0;
    char *text = malloc(size);
    for (int depth = 128; depth <= 129; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        Json *j = json_parse(text, 2 * (size_t)depth, "c.json", &e);
        CHECK(!j == (depth == 129));
        json_free(j);
    }
    CHECK_ERROR(e, "c.json", "column 129: nested deeper than 128");
    memset(text, '[', 100000);
    CHECK(!json_parse(text, 100000, "c.json", &e));

    text[used++] = '{';
    for (int i = 0; i < 100000; i++)
        used += (size_t)sprintf(text + used, "%s\"key %d\":%d", i ? "," : "", i, i);
    text[used++] = '}';
    double start = now();
    Json *j = json_parse(text, used, "c.json", &e);
    CHECK(now() - start < 1);
    CHECK(j && j->count == 100000);
    json_free(j);
    used += (size_t)sprintf(text + used - 1, ",\"key 7\":1}") - 1;
    e = (Error){ 0 };
    CHECK(!json_parse(text, used, "c.json", &e));
    CHECK_ERROR(e, "c.json", "key \"key 7\" is here for the second time");
    free(text);
}

TEST(json_reads_B10)
{
    static const struct { const char *value, *found; } wholes[] = {
        { "1.5", "1.5" }, { "'768'", "\"768\"" }, { "true", "true" }, { "0", "0" }, { "-1", "-1" },
        { "65537", "65537" },
        { "1e3", "1e3" }, { "768.0", "768.0" }, { "2147483648", "2147483648" },
        { "[1]", "an array" }, { "{}", "an object" },
        { "99999999999999999999999", "99999999999999999999999" },
        { "-99999999999999999999999", "-999" },
    };
    Error e;
    for (size_t i = 0; i < countof(wholes); i++) {
        char text[80], want[200];
        int out = 7;
        snprintf(text, sizeof text, "{'hidden_size':%s}", wholes[i].value);
        Json *j = parse(text, &e);
        CHECK(!json_int(j, "hidden_size", 1, 65536, &out, "c.json", &e) && out == 7);
        snprintf(want, sizeof want, "hidden_size: found %s", wholes[i].found);
        CHECK_ERROR(e, "c.json: ", want);
        CHECK_ERROR(e, "c.json: ", ", want a whole number in 1..65536");
        json_free(j);
    }
}

TEST(json_typed_reads)
{
    Error e;
    int i = 7;
    double x = 0.5;
    bool b = true;
    const char *s = "default";
    Json *j = parse("{'i':-12,'x':1e-5,'b':false,'s':'text','null':null,'nul':'a\\u0000b',"
                    "'big':1e999,'low':-Infinity,'n':3,'list':[1,2.5]}", &e);
    CHECK(json_int(j, "i", -20, 20, &i, "c.json", &e) && i == -12);
    CHECK(json_int(j, "null", -20, 20, &i, "c.json", &e)
          && json_int(j, "none", 0, 1, &i, "c.json", &e) && i == -12);
    CHECK(json_int(NULL, "i", -20, 20, &i, "c.json", &e) && i == -12);
    CHECK(json_float(j, "x", 0, 1, &x, "c.json", &e) && x == 1e-5);
    CHECK(json_float(j, "n", 0, 5, &x, "c.json", &e) && x == 3);
    CHECK(json_float(j, "null", 0, 1, &x, "c.json", &e) && x == 3);
    double list[3] = { 9, 9, 9 };
    CHECK(json_floats(j, "list", 2, 0, 5, list, "c.json", &e) && list[0] == 1 && list[1] == 2.5);
    CHECK(json_floats(j, "null", 3, 0, 5, list, "c.json", &e) && list[2] == 9);
    CHECK(!json_floats(j, "list", 3, 0, 5, list, "c.json", &e));
    CHECK_ERROR(e, "c.json: ", "list: found an array of 2, want 3 numbers");
    e.code = 0;
    CHECK(!json_floats(j, "list", 2, 0, 2, list, "c.json", &e));
    CHECK_ERROR(e, "c.json: ", "list: found 2.5, want numbers in 0..2");
    e.code = 0;
    CHECK(!json_floats(j, "n", 1, 0, 5, list, "c.json", &e));
    CHECK_ERROR(e, "c.json: ", "n: found 3, want an array of 1 numbers");
    e.code = 0;
    CHECK(json_bool(j, "b", &b, "c.json", &e) && !b);
    CHECK(json_string(j, "s", &s, "c.json", &e) && !strcmp(s, "text"));
    CHECK(json_string(j, "null", &s, "c.json", &e) && !strcmp(s, "text"));
    CHECK(!json_float(j, "big", -INFINITY, INFINITY, &x, "c.json", &e));
    CHECK_ERROR(e, "c.json: ", "big: found 1e999, want a number in");
    e.code = 0;
    e = (Error){ 0 };
    CHECK(!json_float(j, "low", -INFINITY, INFINITY, &x, "c.json", &e));
    CHECK(strstr(e.text, "low: found -Infinity, want a number in") != NULL);
    e = (Error){ 0 };
    CHECK(!json_float(j, "n", 0, 1, &x, "c.json", &e));
    CHECK_ERROR(e, "c.json: ", "n: found 3, want a number in 0..1");
    e.code = 0;
    CHECK(!json_bool(j, "n", &b, "c.json", &e));
    CHECK_ERROR(e, "c.json: ", "n: found 3, want true or false");
    e.code = 0;
    CHECK(!json_string(j, "nul", &s, "c.json", &e));
    CHECK_ERROR(e, "c.json: ", "nul: found \"a\\x00b\", want a string without \\u0000");
    e.code = 0;
    CHECK(!json_string(j, "b", &s, "c.json", &e));
    CHECK_ERROR(e, "c.json: ", "b: found false, want a string");
    json_free(j);
    j = parse("[1]", &e);                                                  /* B07 */
    CHECK(!json_int(j, "i", 0, 1, &i, "c.json", &e));
    CHECK_ERROR(e, "c.json: ", "found an array, want an object that may hold i");
    json_free(j);
}

TEST(json_of_a_file_B01_B08)
{
    Error e = { 0 };
    Json *j = json_read(put_text("c.json", "{\"a\":1}"), 100, &e);
    CHECK(j != NULL);
    json_free(j);
    CHECK(!json_read(in_room("none.json"), 100, &e));
    CHECK_ERROR(e, in_room("none.json"), "cannot open: No such file or directory");
    e.code = 0;
    CHECK(!json_read(in_room("c.json"), 6, &e));
    CHECK_ERROR(e, in_room("c.json"), "too large, found 7 bytes, want at most 6");
    e.code = 0;
    CHECK(!json_read(put_text("c.json", ""), 6, &e));
    CHECK_ERROR(e, in_room("c.json"), "the text ends");
}

TEST(json_quoting)
{
    char *q = json_quote("a\"\\\n\x1b\x7f\xc3\xa9\xff\0b", 11);
    CHECK_STR(q, "\"a\\\"\\\\\\u000a\\u001b\\u007f\xc3\xa9\\ufffd\\u0000b\"");
    free(q);
}

/* ---- files ----------------------------------------------------------------------------------- */

static void check_refused(int line, const char *path, const char *want)
{
    Error e = { 0 };
    File f;
    if (!file_map(&f, path, 0, &e)) {
        check_error(line, &e, "", want);
        return;
    }
    checks_failed++;
    printf("%s:%d: %s was mapped\n", __FILE__, line, path);
    file_unmap(&f);
}

TEST(files_H18_H19_G14)
{
    Error e = { 0 };
    File f, g;
    char long_path[5001];
    const char *path = put_text("file", "hello");
    CHECK(file_map(&f, path, 5, &e) && f.size == 5 && !memcmp(f.at, "hello", 5));
    CHECK_STR(f.path, path);
    CHECK(file_map(&g, put_text("other", "x"), 0, &e));
    CHECK_STR(file_at(f.at + 4), path);
    CHECK(file_at(g.at) && !file_at(f.at + 5) && !file_at(&e) && !file_at(NULL));
    const uint8_t *was = f.at;
    file_unmap(&f);
    CHECK(!file_at(was) && file_at(g.at) && !f.at && !f.path);
    file_unmap(&f);
    file_unmap(&g);
    CHECK(file_map(&f, put_text("empty", ""), 0, &e) && !f.at && !f.size && f.path);
    file_unmap(&f);

    memset(long_path, 'x', 5000);
    long_path[5000] = 0;
    check_refused(__LINE__, long_path, strerror(ENAMETOOLONG));
    check_refused(__LINE__, "", "No such file");
    check_refused(__LINE__, in_room("a\nb\x1b[2J"), "a\\x0ab\\x1b[2J: cannot open");
    check_refused(__LINE__, room, "not a regular file, it is a folder");
    check_refused(__LINE__, "/dev/zero", "not a regular file, it is a device");
    check_refused(__LINE__, "/proc/self/mem", "not a regular file");
    check_refused(__LINE__, "/proc/self/status", "not a regular file");
    mkfifo(in_room("pipe"), 0666);
    check_refused(__LINE__, in_room("pipe"), "not a regular file, it is a pipe");
    mknod(in_room("socket"), S_IFSOCK | 0666, 0);
    check_refused(__LINE__, in_room("socket"), "not a regular file, it is a socket");
    CHECK(!symlink("nothing", in_room("dangling")) && !symlink("loop", in_room("loop"))
          && !symlink("file", in_room("link")));
    check_refused(__LINE__, in_room("dangling"), "No such file or directory");
    check_refused(__LINE__, in_room("loop"), strerror(ELOOP));
    CHECK(file_map(&f, in_room("link"), 0, &e) && f.size == 5);
    file_unmap(&f);
    CHECK(file_exists(path) && file_exists(in_room("link")) && !file_exists(room)
          && !file_exists(in_room("pipe")));
    CHECK(folder_exists(room) && !folder_exists(path) && !folder_exists(in_room("none")));
}

TEST(paths)
{
    static const struct { const char *folder, *name, *want; } joins[] = {
        { "a", "b", "a/b" }, { "a/", "b", "a/b" }, { "", "b", "b" }, { "/", "b/c", "/b/c" },
    };
    for (size_t i = 0; i < countof(joins); i++) {
        char *path = path_join(joins[i].folder, joins[i].name);
        CHECK_STR(path, joins[i].want);
        free(path);
    }
}

/* ---- outputs --------------------------------------------------------------------------------- */

/* Write text to path through an Output. */
static bool write_out(const char *path, const char *text, Error *e)
{
    *e = (Error){ 0 };
    Output *o = output_open(path, e);
    if (!o) return false;
    if (output_write(o, text, strlen(text), e)) return output_commit(o, e);
    output_discard(o);
    return false;
}

TEST(outputs_are_whole_H03_H17)
{
    Error e = { 0 };
    struct stat s;
    const char *path = in_room("out");
    mode_t mask = umask(027);
    Output *o = output_open(path, &e);
    CHECK(o && leftovers() == 1 && !file_exists(path));
    CHECK(output_write(o, "one", 3, &e) && !file_exists(path) && output_write(o, NULL, 0, &e));
    CHECK(output_commit(o, &e) && holds_text(path, "one") && !leftovers());
    CHECK(!stat(path, &s) && (s.st_mode & 0777) == 0640);
    umask(mask);
    chmod(path, 0604);
    o = output_open(path, &e);
    CHECK(o && output_write(o, "two", 3, &e));
    output_discard(o);
    CHECK(holds_text(path, "one") && !leftovers());
    output_discard(NULL);
    CHECK(write_out(path, "three", &e) && holds_text(path, "three"));
    CHECK(!stat(path, &s) && (s.st_mode & 0777) == 0604);

    Output *a = output_open(path, &e), *b = output_open(path, &e);         /* H26 */
    CHECK(a && b && leftovers() == 2);
    CHECK(output_write(a, "aaa", 3, &e) && output_write(b, "b", 1, &e));
    CHECK(output_commit(b, &e) && output_commit(a, &e) && holds_text(path, "aaa") && !leftovers());

    size_t n, big = 300001;                                                /* across the buffer */
    char *bytes = malloc(big), *back;
    for (size_t i = 0; i < big; i++) bytes[i] = (char)(i * 7 + i / 251);
    o = output_open(path, &e);
    CHECK(output_write(o, bytes, 1, &e) && output_write(o, bytes + 1, 100000, &e));
    for (size_t i = 100001; i < big; i += 100) CHECK(output_write(o, bytes + i, 100, &e));
    CHECK(output_commit(o, &e));
    back = get(path, &n);
    CHECK(n == big && !memcmp(back, bytes, big));
    free(back);
    free(bytes);
}

TEST(outputs_refused_early_H02_H04_H05)
{
    Error e = { 0 };
    CHECK(!output_open(in_room("no/folder/x"), &e));
    CHECK_ERROR(e, in_room("no/folder/x"), "cannot write: No such file or directory");
    e.code = 0;
    CHECK(!output_open(room, &e));
    CHECK_ERROR(e, room, "cannot write: it is a folder");
    e.code = 0;
    CHECK(!output_open("", &e));
    CHECK_ERROR(e, "''", "cannot write: No such file or directory");
    e.code = 0;
    unlink(in_room("loop"));
    CHECK(!symlink("loop", in_room("loop")) && !output_open(in_room("loop"), &e));
    CHECK_ERROR(e, in_room("loop"), strerror(ELOOP));
    e.code = 0;
    put_text("plain", "x");
    CHECK(!output_open(in_room("plain/x"), &e));
    CHECK_ERROR(e, in_room("plain/x"), "cannot write: Not a directory");
    if (geteuid()) {                                                 /* root may write everywhere */
        e.code = 0;
        mkdir(in_room("closed"), 0555);
        CHECK(!output_open(in_room("closed/x"), &e));
        CHECK_ERROR(e, in_room("closed/x"), "cannot write: Permission denied");
        e.code = 0;
        chmod(in_room("plain"), 0444);
        CHECK(!output_open(in_room("plain"), &e));
        CHECK_ERROR(e, in_room("plain"), "cannot write: Permission denied");
    }
    char name[256];
    memset(name, 'n', 255);
    name[255] = 0;
    CHECK(write_out(in_room(name), "long", &e) && holds_text(in_room(name), "long"));
    CHECK(!leftovers());
}

TEST(outputs_through_links_H05)
{
    Error e = { 0 };
    struct stat s;
    mkdir(in_room("target"), 0777);
    put_text("target/real", "old");
    CHECK(!symlink("target/real", in_room("to-real")) && !symlink("target/new", in_room("to-new")));
    CHECK(!symlink("to-real", in_room("to-link")));
    CHECK(write_out(in_room("to-link"), "through", &e)
          && holds_text(in_room("target/real"), "through"));
    CHECK(!lstat(in_room("to-link"), &s) && S_ISLNK(s.st_mode) && !lstat(in_room("to-real"), &s)
          && S_ISLNK(s.st_mode));
    CHECK(write_out(in_room("to-new"), "made", &e) && holds_text(in_room("target/new"), "made"));
    CHECK(!lstat(in_room("to-new"), &s) && S_ISLNK(s.st_mode));
}

TEST(outputs_without_room_H01)
{
    Error e = { 0 };
    CHECK(!write_out("/dev/full", "small: fails at commit", &e));
    CHECK_ERROR(e, "/dev/full", "cannot write: No space left on device");
    static char large[200000];
    memset(large, 'x', sizeof large - 1);
    CHECK(!write_out("/dev/full", large, &e));
    CHECK_ERROR(e, "/dev/full", "cannot write: No space left on device");
    e = (Error){ 0 };
    Output *o = output_open("/dev/full", &e);
    Error later = { 0 };
    CHECK(o && !output_write(o, large, sizeof large, &e)
          && !output_write(o, large, sizeof large, &later));
    CHECK_ERROR(later, "/dev/full", "an earlier write failed");
    later.code = 0;
    CHECK(!output_commit(o, &later));
    CHECK(write_out("/dev/null", "x", &e));
}

TEST(outputs_to_a_pipe_H06)
{
    Error e;
    char got[8] = "";
    unlink(in_room("fifo"));
    mkfifo(in_room("fifo"), 0666);
    int fd = open(in_room("fifo"), O_RDONLY | O_NONBLOCK);
    CHECK(write_out(in_room("fifo"), "hello", &e));
    CHECK(read(fd, got, sizeof got) == 5 && !strcmp(got, "hello"));
    close(fd);
    struct stat s;
    CHECK(!stat(in_room("fifo"), &s) && S_ISFIFO(s.st_mode));
}

static void write_standard(void)
{
    Error e;
    if (write_out("-", "to standard output", &e)) return;
    fprintf(stderr, "%s", e.text);
    _exit(!strncmp(e.text, "standard output: cannot write: ", 31) ? 1 : 99);
}

static void standard_to_file(void)
{
    dup2(open(in_room("stdout"), O_WRONLY | O_CREAT | O_TRUNC, 0666), 1);
    write_standard();
    _exit(write(1, "!", 1) == 1 ? 0 : 1);                                  /* still open */
}

static void be_quiet(void) { dup2(open("/dev/null", O_WRONLY), 2); }
static void standard_closed(void) { be_quiet(); close(1); write_standard(); }
static void standard_full(void)
{
    be_quiet();
    dup2(open("/dev/full", O_WRONLY), 1);
    write_standard();
}

static void standard_broken(void)
{
    int ends[2];
    if (pipe(ends)) return;
    dup2(ends[1], 1);
    close(ends[0]);
    be_quiet();
    write_standard();
}

TEST(standard_output_H07_H08)
{
    in_room("");
    CHECK(apart(standard_to_file) == 0 && holds_text(in_room("stdout"), "to standard output!"));
    CHECK(apart(standard_closed) == 1);
    CHECK(apart(standard_full) == 1);
    CHECK(apart(standard_broken) == 1);
}

/* H15: with 1 and 2 closed, what is printed must not land in the file. */
static void without_standard(void)
{
    Error e = { 0 };
    close(1);
    close(2);
    Output *o = output_open(in_room("alone"), &e);
    bool apart_ = o && write(1, "x", 1) < 0 && write(2, "x", 1) < 0;
    if (!apart_ || !output_write(o, "data", 4, &e) || !output_commit(o, &e)) _exit(1);
}

static void file_size_limit(void)
{
    Error e;
    static char large[300000];
    memset(large, 'x', sizeof large - 1);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 100000, 100000 });
    if (write_out(in_room("limited"), large, &e)
        || !strstr(e.text, "cannot write: File too large")) _exit(1);
}

static void few_descriptors(void)
{
    Error e = { 0 };
    File f;
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 3, 3 });
    if (file_map(&f, in_room("limited"), 0, &e)
        || !strstr(e.text, strerror(EMFILE))) _exit(1);
    if (write_out(in_room("limited"), "x", &e) || !strstr(e.text, strerror(EMFILE))) _exit(2);
}

/* H10: what a signal handler does. */
static void interrupted(void)
{
    Error e = { 0 };
    Output *a = output_open(in_room("limited"), &e), *b = output_open(in_room("fresh"), &e);
    SafeWriter *s = safe_open(in_room("fresh.safetensors"), &e);
    if (!a || !b || !s || leftovers() != 3) _exit(1);
    output_discard(b);
    output_write(a, "half", 4, &e);
    output_discard_all();
}

TEST(outputs_in_bad_weather_H10_H12_H15_H16)
{
    put_text("limited", "old");
    CHECK(apart(without_standard) == 0 && holds_text(in_room("alone"), "data"));
    CHECK(apart(file_size_limit) == 0);
    CHECK(apart(few_descriptors) == 0);
    CHECK(apart(interrupted) == 0);
    CHECK(holds_text(in_room("limited"), "old") && !file_exists(in_room("fresh")) && !leftovers());
}

/* ---- tensors out ----------------------------------------------------------------------------- */

TEST(safetensors_written)
{
    Error e = { 0 };
    Weights w;
    static float many[70000];                                              /* more than a buffer */
    static const uint16_t halves[3] = { 1, 2, 3 };
    for (int i = 0; i < 70000; i++) many[i] = (float)i;
    const char *path = in_room("made.safetensors");
    SafeWriter *s = safe_open(path, &e);
    CHECK(s && safe_add(s, "h", F16, 1, (const int[]){ 3 }, halves, &e));
    CHECK(safe_add(s, "quote\" \xff", F32, 2, (const int[]){ 7, 10000 }, many, &e));
    CHECK(safe_add(s, "none", F32, 3, (const int[]){ 2, 0, 4 }, NULL, &e)
          && safe_add(s, "one", F32, 0, NULL, many + 5, &e));
    CHECK(!file_exists(path));
    CHECK(safe_commit(s, (const char *const[]){ "prompt", "a \"cat\"\n\xe2\x98", "n", "1", NULL },
                      &e) && !leftovers());
    CHECK(weights_open(&w, path, NULL, &e));
    CHECK(w.count == 4 && w.entries[0].end == 6
          && (size_t)(w.files[0].size - w.entries[3].end) % 8 == 0);
    const Entry *t = weights_find(&w, "quote\" \xef\xbf\xbd"), *one = weights_find(&w, "one");
    CHECK(t && t->rank == 2 && t->shape[1] == 10000 && !memcmp(t->at, many, sizeof many));
    CHECK(one && one->rank == 0 && !memcmp(one->at, many + 5, 4) && weights_find(&w, "none"));
    CHECK(json_is(json_get(weights_metadata(&w, 0), "prompt"),
                  "a \"cat\"\n\xef\xbf\xbd\xef\xbf\xbd"));
    weights_close(&w);

    s = safe_open(path, &e);
    CHECK(safe_commit(s, NULL, &e) && weights_open(&w, path, NULL, &e) && w.count == 0);
    weights_close(&w);
    put_text("made.safetensors", "old");
    s = safe_open(path, &e);
    CHECK(safe_add(s, "x", F32, 0, NULL, many, &e) && safe_add(s, "x", F32, 0, NULL, many, &e)
          && !safe_commit(s, NULL, &e));
    CHECK_ERROR(e, path, "two tensors of one name, \"x\"");
    e.code = 0;
    s = safe_open(path, &e);
    CHECK(!safe_add(s, "x", BF16, 0, NULL, many, &e));
    CHECK_ERROR(e, path, "tensor 'x': only F32 and F16 are written");
    e.code = 0;
    CHECK(!safe_add(s, "x", F32, 1, (const int[]){ -1 }, many, &e));
    CHECK_ERROR(e, path, "tensor 'x': dimension 0 is -1");
    e.code = 0;
    CHECK(!safe_add(s, "__metadata__", F32, 0, NULL, many, &e));
    CHECK(safe_begin(s, "z", "U8", 1, (const int[]){ 4 }, &e) && safe_more(s, "abc", 3, &e));
    e.code = 0;
    CHECK(!safe_begin(s, "w", "U8", 0, NULL, &e));                /* z is not whole */
    CHECK_ERROR(e, path, "tensor \"z\": its bytes end at 3, want 4");
    e.code = 0;
    CHECK(!safe_begin(s, "w", "F4", 0, NULL, &e));
    CHECK_ERROR(e, path, "tensor 'w': F4 is not written");
    e.code = 0;
    CHECK(!safe_begin(s, "w", "I64", 2, (const int[]){ INT_MAX, INT_MAX }, &e));
    CHECK_ERROR(e, path, "tensor 'w': dimension 1 is 2147483647: negative or too large");
    CHECK(safe_more(s, "d", 1, &e));
    CHECK(safe_add(s, "y", F32, 0, NULL, many, &e));             /* a refused one leaves no trace */
    safe_discard(s);
    safe_discard(NULL);
    CHECK(holds_text(path, "old") && !leftovers());
    e.code = 0;
    CHECK(!safe_open(in_room("none/x"), &e));
    CHECK_ERROR(e, in_room("none/x"), "No such file");
    s = safe_open("/dev/full", &e);
    CHECK(s && safe_add(s, "m", F32, 1, (const int[]){ 70000 }, many, &e));
    e.code = 0;
    CHECK(!safe_commit(s, NULL, &e));
    CHECK_ERROR(e, "/dev/full", "No space left");
}

TEST(npy_written)
{
    Error e = { 0 };
    size_t n;
    static const float data[6] = { 0, 1, 2, 3, 4, 5 };
    static const struct { int rank; int shape[3]; const char *want; size_t size; } arrays[] = {
        { 0, { 0 }, "'shape': (), }", 128 + 4 },        { 1, { 6 }, "'shape': (6,), }", 128 + 24 },
        { 2, { 2, 3 }, "'shape': (2, 3), }", 128 + 24 },
        { 3, { 1, 0, 6 }, "'shape': (1, 0, 6), }", 128 },
    };
    for (size_t i = 0; i < countof(arrays); i++) {
        CHECK(npy_write(in_room("x.npy"), arrays[i].rank, arrays[i].shape, data, &e));
        char *bytes = get(in_room("x.npy"), &n);
        CHECK(n == arrays[i].size && !memcmp(bytes, "\x93NUMPY\1\0\x76\0", 10));
        CHECK(!memcmp(bytes + 10, "{'descr': '<f4', 'fortran_order': False, ", 41));
        CHECK(strstr(bytes + 10, arrays[i].want) && bytes[127] == '\n'
              && !memcmp(bytes + 128, data, n - 128));
        free(bytes);
    }
    CHECK(!npy_write(in_room("x.npy"), 1, (const int[]){ -1 }, data, &e));
}

/* ---- memory and sums ------------------------------------------------------------------------- */

TEST(arenas)
{
    Error e = { 0 };
    Arena m;
    CHECK(arena_open(&m, 100000, NULL, &e) && m.size == 100000 && m.base && !m.used);
    memset(m.base, 1, m.size);
    arena_close(&m);
    CHECK(!m.base);
    arena_close(&m);
    CHECK(arena_open(&m, 0, NULL, &e));
    arena_close(&m);
    CHECK(!arena_open(&m, (size_t)1 << 60, NULL, &e) && !m.base);
    CHECK_ERROR(e, "out of memory: ", "needed 1.2 EB for activations");

    e.code = 0;
    CHECK(arena_open(&m, 100000, in_room("scratch"), &e) && !file_exists(in_room("scratch")));
    memset(m.base, 1, m.size);
    arena_close(&m);
    put_text("scratch", "mine");
    CHECK(!arena_open(&m, 100000, in_room("scratch"), &e)
          && holds_text(in_room("scratch"), "mine"));
    CHECK_ERROR(e, in_room("scratch"), "cannot make the scratch file: File exists");
    e.code = 0;
    CHECK(!arena_open(&m, 100000, in_room("none/scratch"), &e));
    CHECK_ERROR(e, in_room("none/scratch"), "No such file");
    e.code = 0;
    CHECK(!arena_open(&m, (size_t)1 << 60, in_room("scratch2"), &e)
          && !file_exists(in_room("scratch2")));
    CHECK_ERROR(e, in_room("scratch2"), "cannot hold the 1.2 EB of activations: ");
}

static const char *sum(const char *text, size_t n, size_t piece)
{
    static char hex[65];
    Sha256 s;
    sha256_start(&s);
    for (size_t i = 0; i < n; i += piece) sha256_add(&s, text + i, zmin(piece, n - i));
    sha256_end(&s, hex);
    return hex;
}

/* FIPS 180-4's examples, and every length around a block in pieces of every size. */
TEST(sha256_sums)
{
    static char a[1000000];
    memset(a, 'a', sizeof a);
    CHECK_STR(sum("", 0, 1), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK_STR(sum("abc", 3, 1), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK_STR(sum("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, 7),
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    CHECK_STR(sum("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
                  "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu", 112, 65),
              "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
    CHECK_STR(sum(a, sizeof a, 4097),
              "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    for (size_t n = 50; n < 140; n++) {
        char whole[65];
        memcpy(whole, sum(a, n, n), 65);
        for (size_t piece = 1; piece < 70; piece += 3) CHECK_STR(sum(a, n, piece), whole);
    }
}
