package alluvium.spring;

import java.time.LocalDate;
import java.util.List;

/** The payload: nested, with text beyond ASCII, as JSON. */
public record Order(int number, String customer, LocalDate day, List<Line> lines) {
    public record Line(String article, int pieces) {}

    static Order numbered(int number) {
        return new Order(number, "Zoë № " + number % 7, LocalDate.of(2026, 1, 1).plusDays(number % 300),
                List.of(new Line("gravel", number), new Line("sand", 1)));
    }
}
