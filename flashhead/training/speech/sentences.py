"""The sentences (our own) and voices of the synthetic speech, by language.

Every sixth sentence is held out.
"""

from __future__ import annotations

SENTENCES: dict[str, tuple[str, ...]] = {
    "en": (
        "Good morning, how are you today?",
        "The train to the harbour leaves at half past nine.",
        "We bought apples, pears and a big bag of plums.",
        "Please open the window before you go to bed.",
        "My brother paints old boats in the summer.",
        "Nobody knew why the clock had stopped.",
        "She plays the piano every evening after supper.",
        "A small blue bird is sitting on the roof.",
        "Could you tell me where the museum is?",
        "They walked along the beach and talked about music.",
        "I would love another cup of coffee, thank you.",
        "The weather may change before we reach the top.",
        "Five fine fish swim far from the shore.",
        "Mary and Tom move to a warm place each winter.",
        "What a beautiful photograph of the moon!",
        "He reads the newspaper while the bread is baking.",
        "Put both keys on the shelf beside the door.",
        "Our neighbours have a garden full of roses.",
        "The river was frozen, so we could walk across.",
        "Do not forget to call your mother on Sunday.",
        "Every machine in this room was built by hand.",
        "The cook showed us how to make onion soup.",
        "Two wooden boxes were left in front of the house.",
        "If you speak slowly, everybody will understand you.",
        "Maybe we should wait until the rain is over.",
        "The children laughed and jumped over the puddles.",
        "I have never seen such an enormous bookshop.",
        "You may use my bicycle whenever you like.",
        "The old farmer whistled to his dog.",
        "Above the village there is a ruined tower.",
    ),
    "de": (
        "Guten Morgen, wie geht es dir heute?",
        "Der Zug nach Hamburg fährt um neun Uhr ab.",
        "Wir haben Äpfel, Birnen und Pflaumen gekauft.",
        "Bitte mach das Fenster zu, bevor du gehst.",
        "Mein Bruder baut im Sommer kleine Boote.",
        "Niemand wusste, warum die Uhr stehen geblieben war.",
        "Am Abend spielt sie oft Klavier.",
        "Ein blauer Vogel sitzt auf dem Dach.",
        "Können Sie mir sagen, wo das Museum ist?",
        "Ich möchte noch eine Tasse Kaffee, danke.",
        "Das Wetter ändert sich vielleicht am Nachmittag.",
        "Unsere Nachbarn haben einen Garten voller Rosen.",
        "Die Kinder lachen und springen über die Pfützen.",
        "Vergiss nicht, am Sonntag deine Mutter anzurufen.",
        "Über dem Dorf steht ein alter Turm.",
        "Fünf Freunde feiern heute ein fröhliches Fest.",
        "Der Koch zeigte uns, wie man Zwiebelsuppe macht.",
        "Wenn du langsam sprichst, versteht dich jeder.",
    ),
    "fr": (
        "Bonjour, comment allez-vous aujourd'hui ?",
        "Le train pour la mer part à neuf heures.",
        "Nous avons acheté des pommes et des poires.",
        "Ferme la fenêtre avant de partir, s'il te plaît.",
        "Mon frère répare de vieux bateaux en été.",
        "Personne ne savait pourquoi l'horloge s'était arrêtée.",
        "Elle joue du piano tous les soirs.",
        "Un petit oiseau bleu chante sur le toit.",
        "Pouvez-vous me dire où se trouve le musée ?",
        "Je voudrais encore une tasse de café, merci.",
        "Le temps va peut-être changer cet après-midi.",
        "Nos voisins ont un jardin plein de roses.",
        "Les enfants rient et sautent dans les flaques.",
        "N'oublie pas d'appeler ta mère dimanche.",
        "Au-dessus du village, il y a une vieille tour.",
        "Quelle belle photo de la lune !",
        "Le cuisinier prépare une soupe à l'oignon.",
        "Si tu parles lentement, tout le monde comprendra.",
    ),
    "es": (
        "Buenos días, ¿cómo está usted hoy?",
        "El tren de la costa sale a las nueve y media.",
        "Hemos comprado manzanas, peras y ciruelas.",
        "Cierra la ventana antes de salir, por favor.",
        "Mi hermano pinta barcos viejos en verano.",
        "Nadie sabía por qué se había parado el reloj.",
        "Ella toca el piano todas las noches.",
        "Un pájaro azul canta en el tejado.",
        "¿Puede decirme dónde está el museo?",
        "Quisiera otra taza de café, gracias.",
        "Quizá el tiempo cambie por la tarde.",
        "Nuestros vecinos tienen un jardín lleno de rosas.",
        "Los niños ríen y saltan sobre los charcos.",
        "No olvides llamar a tu madre el domingo.",
        "Encima del pueblo hay una torre antigua.",
        "¡Qué hermosa fotografía de la luna!",
        "El cocinero prepara una sopa de cebolla.",
        "Si hablas despacio, todos te entenderán.",
    ),
}

VOICES: dict[str, tuple[str, ...]] = {
    "en": ("en-us+m1", "en-us+f1", "en+m3", "en-us+f2", "en+f4", "en-us+m7"),
    "de": ("de+m2", "de+f1", "de+m6", "de+f3"),
    "fr": ("fr+m1", "fr+f2", "fr+m4", "fr+f5"),
    "es": ("es+m1", "es+f1", "es+m5", "es+f2"),
}
HELD_OUT_VOICES: dict[str, tuple[str, ...]] = {
    "en": ("en+m5", "en-us+f5"),
    "de": ("de+m4", "de+f4"),
    "fr": ("fr+m3", "fr+f1"),
    "es": ("es+m3", "es+f4"),
}
_EVERY = 6


def sentences(language: str, *, held_out: bool = False) -> tuple[str, ...]:
    """A language's sentences to train on, or those that are held out."""
    return tuple(
        text
        for number, text in enumerate(SENTENCES[language])
        if (number % _EVERY == _EVERY - 1) == held_out
    )


def voices(language: str, *, held_out: bool = False) -> tuple[str, ...]:
    """A language's voices to train on, or those that are held out."""
    return (HELD_OUT_VOICES if held_out else VOICES)[language]
