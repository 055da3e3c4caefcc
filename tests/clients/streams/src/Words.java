import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** Lines of words that are the same on each run, and the count of each word in all lines that were given out. */
final class Words {
    private static final int WORDS = 40;
    private int next;
    private final Map<String, Integer> counts = new TreeMap<>();

    /** Key and value of each of the next lines. */
    List<String[]> lines(int count) {
        List<String[]> all = new ArrayList<>();
        for (int i = 0; i < count; i++, next++) {
            StringBuilder line = new StringBuilder();
            for (int w = 0; w < 5; w++) {
                String word = "word" + (next * 7L + w * w * 13L) % WORDS;
                counts.merge(word, 1, Integer::sum);
                line.append(w == 0 ? "" : " ").append(word);
            }
            all.add(new String[] {"line" + next, line.toString()});
        }
        return all;
    }

    Map<String, String> counts() {
        Map<String, String> map = new TreeMap<>();
        counts.forEach((word, count) -> map.put(word, count.toString()));
        return map;
    }
}
